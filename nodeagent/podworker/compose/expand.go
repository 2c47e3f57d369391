package compose

import "strings"

// expand replaces $(NAME) by the variable's value. A reference that is not known stays as it is, and $$(NAME) is the
// way to write a literal one. Source: the API documentation of Container.command.
func expand(s string, lookup func(string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		rest := s[i:]
		switch {
		case strings.HasPrefix(rest, "$$"):
			out.WriteByte('$')
			i += 2
		case strings.HasPrefix(rest, "$("):
			end := strings.IndexByte(rest, ')')
			if end < 0 {
				out.WriteString("$(")
				i += 2
				continue
			}
			name := rest[2:end]
			if v, ok := lookup(name); ok {
				out.WriteString(v)
			} else {
				out.WriteString(rest[:end+1])
			}
			i += end + 1
		default:
			out.WriteByte(s[i])
			i++
		}
	}
	return out.String()
}

func expandAll(list []string, lookup func(string) (string, bool)) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = expand(s, lookup)
	}
	return out
}
