package corefile

import (
	"fmt"
	"strings"
)

// line is a line of words, with those between its braces.
type line struct {
	number int
	words  []string
	body   []line
	braces bool
}

func (l line) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s: %w", l.number, l.words[0], fmt.Errorf(format, args...))
}

// depth bounds how deep braces may be nested; no directive needs more than three.
const depth = 4

// lines reads the structure of a file.
func lines(text string) ([]line, error) {
	stack := []*line{{}}
	for i, raw := range strings.Split(text, "\n") {
		number := i + 1
		words, err := split(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		top := stack[len(stack)-1]
		switch {
		case len(words) == 0:
		case words[0] == "}":
			if len(words) > 1 || len(stack) == 1 {
				return nil, fmt.Errorf("line %d: a brace closes that was not opened, or words follow it", number)
			}
			stack = stack[:len(stack)-1]
			parent := stack[len(stack)-1]
			parent.body = append(parent.body, *top)
		case words[len(words)-1] == "{":
			if len(words) == 1 || len(stack) == depth {
				return nil, fmt.Errorf("line %d: a brace opens in the wrong place", number)
			}
			stack = append(stack, &line{number: number, words: words[:len(words)-1], braces: true})
		default:
			top.body = append(top.body, line{number: number, words: words})
		}
	}
	if len(stack) > 1 {
		return nil, fmt.Errorf("line %d: the brace is never closed", stack[len(stack)-1].number)
	}
	return stack[0].body, nil
}

// split divides a line into words. A word in double quotes may have blanks in it; # begins a comment.
func split(text string) ([]string, error) {
	var words []string
	for {
		text = strings.TrimLeft(text, " \t\r")
		switch {
		case text == "" || text[0] == '#':
			return words, nil
		case text[0] == '"':
			word, rest, closed := strings.Cut(text[1:], `"`)
			if !closed {
				return nil, fmt.Errorf("a quote is never closed")
			}
			words, text = append(words, word), rest
		default:
			end := strings.IndexAny(text, " \t\r")
			if end < 0 {
				end = len(text)
			}
			words, text = append(words, text[:end]), text[end:]
		}
	}
}
