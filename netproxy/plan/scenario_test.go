package plan

import (
	"bufio"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hardway/netproxy/state"
)

var update = flag.Bool("update", false, "rewrite the expected lines of testdata/*.txt")

// TestScenarios replays testdata/*.txt. A file tells the history of services on node "n1", zone "z1":
//
//	service ns/name address[,address] name=protocol/port[:nodeport] ... [affinity=1h] [internal=local] [external=local] [lb=address] [sources=net,net] [near]
//	endpoint ns/name address portname=port ... [node=n1] [not-ready] [serving] [terminating] [nodes=n1] [zones=z1]
//	remove ns/name
//	step
//
// "service" begins a service anew, without endpoints. After "step" come the lines that the step should give: "+" added, "-" deleted, "chain" and
// "flow". With -update they are rewritten.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := replay(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("got:\n%s\nwant:\n%s", got, text)
			}
		})
	}
}

// replay returns the scenario with the lines that the steps really give.
func replay(text string) (string, error) {
	s := scenario{planner: New(state.Node{Name: "n1", Zone: "z1"}), facts: map[state.Name]state.Facts{}, changed: map[state.Name]bool{}}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		fields := strings.Fields(line)
		if len(fields) > 0 && strings.Contains("+ - chain flow", fields[0]) {
			continue // expected lines are made anew
		}
		fmt.Fprintln(&s.out, line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if err := s.line(fields); err != nil {
			return "", fmt.Errorf("%s: %w", line, err)
		}
	}
	return s.out.String(), nil
}

type scenario struct {
	planner *Planner
	facts   map[state.Name]state.Facts
	changed map[state.Name]bool
	out     strings.Builder
}

func (s *scenario) line(f []string) error {
	if f[0] == "step" {
		s.step()
		return nil
	}
	if len(f) < 2 {
		return fmt.Errorf("a name is missing")
	}
	namespace, base, _ := strings.Cut(f[1], "/")
	name := state.Name{Namespace: namespace, Name: base}
	s.changed[name] = true
	switch {
	case f[0] == "remove":
		delete(s.facts, name)
		return nil
	case f[0] == "service" && len(f) > 2:
		service, err := parseService(name, f[2:])
		s.facts[name] = state.Facts{Service: service}
		return err
	case f[0] == "endpoint" && len(f) > 2:
		slice, err := parseEndpoint(f[2:])
		facts := s.facts[name]
		facts.Slices = append(facts.Slices, slice)
		s.facts[name] = facts
		return err
	}
	return fmt.Errorf("not a line of a scenario")
}

func (s *scenario) step() {
	var changes state.Changes
	for name := range s.changed {
		changes.Services = append(changes.Services, state.Change{Name: name, Facts: s.facts[name]})
	}
	clear(s.changed)
	step := s.planner.Step(changes)
	for _, e := range step.Delete {
		fmt.Fprintln(&s.out, "-", e)
	}
	for _, e := range step.Add {
		fmt.Fprintln(&s.out, "+", e)
	}
	for _, c := range step.NewChains {
		fmt.Fprintf(&s.out, "chain + ipv%d %s\n", c.Family, c)
	}
	for _, c := range step.OldChains {
		fmt.Fprintf(&s.out, "chain - ipv%d %s\n", c.Family, c)
	}
	for _, f := range step.Flows {
		to := "node"
		if f.Addr.IsValid() {
			to = f.Addr.String()
		}
		fmt.Fprintf(&s.out, "flow %s . %d only to %v\n", to, f.Port, f.Good)
	}
}

func parseService(name state.Name, f []string) (*state.Service, error) {
	s := &state.Service{Name: name}
	var err error
	if s.ClusterIPs, err = parseAddrs(f[0]); err != nil {
		return nil, err
	}
	for _, word := range f[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "affinity":
			s.Affinity, err = time.ParseDuration(value)
		case "internal":
			s.InternalLocal = value == "local"
		case "external":
			s.ExternalLocal = value == "local"
		case "near":
			s.PreferSameNode = true
		case "lb":
			s.ExternalIPs, err = parseAddrs(value)
		case "sources":
			for part := range strings.SplitSeq(value, ",") {
				s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(part))
			}
		default:
			var p state.Port
			p, err = parsePort(key, value)
			s.Ports = append(s.Ports, p)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parsePort reads "tcp/80:30080".
func parsePort(name, text string) (state.Port, error) {
	protocol, numbers, _ := strings.Cut(text, "/")
	port, nodePort, _ := strings.Cut(numbers, ":")
	p := state.Port{Name: name, Protocol: map[string]state.Protocol{"tcp": state.TCP, "udp": state.UDP, "sctp": state.SCTP}[protocol]}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return p, err
	}
	p.Port = uint16(n)
	if nodePort != "" {
		n, err = strconv.ParseUint(nodePort, 10, 16)
		p.NodePort = uint16(n)
	}
	return p, err
}

func parseEndpoint(f []string) (state.Slice, error) {
	addr, err := netip.ParseAddr(f[0])
	e := state.Endpoint{Addr: addr, Ready: true, Serving: true}
	var out state.Slice
	for _, word := range f[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "node":
			e.Node = value
		case "not-ready":
			e.Ready, e.Serving = false, false
		case "serving":
			e.Serving = true
		case "terminating":
			e.Terminating = true
		case "nodes":
			e.ForNodes = strings.Split(value, ",")
		case "zones":
			e.ForZones = strings.Split(value, ",")
		default:
			protocol, number, found := strings.Cut(value, "/")
			if !found {
				protocol, number = "tcp", value
			}
			p, perr := parsePort(key, protocol+"/"+number)
			if perr != nil {
				return out, perr
			}
			out.Ports = append(out.Ports, state.SlicePort{Name: key, Protocol: p.Protocol, Port: p.Port})
		}
	}
	out.Endpoints = []state.Endpoint{e}
	return out, err
}

func parseAddrs(text string) ([]netip.Addr, error) {
	var out []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(part)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
