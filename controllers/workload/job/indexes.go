package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// indexes is a set of completion indexes, written as the API writes them: "1,3-5,7".
type indexes map[int]bool

// parseIndexes reads a set. What cannot be read, or is not below limit, is left out.
func parseIndexes(text string, limit int) indexes {
	out := indexes{}
	for part := range strings.SplitSeq(text, ",") {
		first, last, ok := parseInterval(part)
		if !ok {
			continue
		}
		for i := first; i <= min(last, limit-1); i++ {
			out[i] = true
		}
	}
	return out
}

func parseInterval(text string) (first, last int, ok bool) {
	from, to, isRange := strings.Cut(text, "-")
	first, err := strconv.Atoi(from)
	if err != nil {
		return 0, 0, false
	}
	if !isRange {
		return first, first, true
	}
	last, err = strconv.Atoi(to)
	return first, last, err == nil
}

// String writes the set: single numbers and ranges, in order.
func (x indexes) String() string {
	var sorted []int
	for i := range x {
		sorted = append(sorted, i)
	}
	slices.Sort(sorted)
	var parts []string
	for at := 0; at < len(sorted); {
		end := at
		for end+1 < len(sorted) && sorted[end+1] == sorted[end]+1 {
			end++
		}
		switch end - at {
		case 0:
			parts = append(parts, strconv.Itoa(sorted[at]))
		case 1:
			parts = append(parts, strconv.Itoa(sorted[at]), strconv.Itoa(sorted[end]))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", sorted[at], sorted[end]))
		}
		at = end + 1
	}
	return strings.Join(parts, ",")
}
