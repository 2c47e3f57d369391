package hardway

import (
	"fmt"
	"strings"
)

// Block is a block of commands of the page.
type Block struct {
	Line     int      // of the page
	Section  string   // the heading above it
	Machines []string // that run it, at the same time
	Script   string
}

// Blocks reads the commands of a page: fenced blocks whose first line is "```sh" and names of machines.
func Blocks(page string) ([]Block, error) {
	var found []Block
	var open *Block
	section := ""
	for i, line := range strings.Split(page, "\n") {
		names, fence := strings.CutPrefix(line, "```")
		heading, isHeading := strings.CutPrefix(line, "## ")
		switch {
		case open != nil && fence:
			found, open = append(found, *open), nil
		case open != nil:
			open.Script += line + "\n"
		case fence:
			fields := strings.Fields(names)
			if len(fields) < 2 || fields[0] != "sh" {
				return nil, fmt.Errorf("line %d: a block must say on which machine it is run", i+1)
			}
			open = &Block{Line: i + 1, Section: section, Machines: fields[1:]}
		case isHeading:
			section = heading
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block has no end", open.Line)
	}
	return found, nil
}

// Hosts reads the table of machines: names in backquotes in the first column, as many addresses in the second, of which
// further ones may be written as ".11".
func Hosts(page string) (map[string]string, error) {
	found := map[string]string{}
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		names := strings.Fields(strings.ReplaceAll(cells[1], "`", ""))
		addresses := strings.Fields(strings.ReplaceAll(cells[2], ",", " "))
		if len(names) != len(addresses) {
			return nil, fmt.Errorf("%d names and %d addresses in %q", len(names), len(addresses), line)
		}
		for i, address := range addresses {
			if strings.HasPrefix(address, ".") {
				address = addresses[0][:strings.LastIndexByte(addresses[0], '.')] + address
			}
			found[names[i]] = address
		}
	}
	return found, nil
}
