// Package selector says which devices a CEL expression of a DeviceClass or a ResourceClaim is about (KEP-4381).
//
// An expression reads one variable, device, with the fields driver, attributes, capacity and allowMultipleAllocations. The
// first key of attributes and capacity is the domain: that of the name, or the driver's where the name has none. A domain
// that a device does not have is empty, an attribute that it does not have is an error, as upstream defines it.
//
// Besides CEL's own functions there are those of strings, lists, sets, regular expressions, quantities and semantic versions. What an
// expression may cost is limited.
package selector

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	lru "github.com/hashicorp/golang-lru/v2"
	resourcev1 "k8s.io/api/resource/v1"
)

// maxCompiled is how many expressions a Cache keeps.
const maxCompiled = 256

// Selector is a compiled expression.
type Selector struct {
	program cel.Program
	adapter types.Adapter
}

// Cache compiles expressions, each once while it is in use. It has one user at a time.
type Cache struct {
	env      *cel.Env
	compiled *lru.Cache[string, compiled]
}

type compiled struct {
	selector *Selector
	err      error
}

// NewCache is empty.
func NewCache() *Cache {
	kept, err := lru.New[string, compiled](maxCompiled)
	if err != nil { // only for a size of nothing
		panic(err)
	}
	return &Cache{compiled: kept}
}

// Get compiles an expression.
func (c *Cache) Get(expression string) (*Selector, error) {
	if known, ok := c.compiled.Get(expression); ok {
		return known.selector, known.err
	}
	if c.env == nil { // most clusters have no devices
		env, err := environment()
		if err != nil {
			return nil, fmt.Errorf("prepare CEL: %w", err)
		}
		c.env = env
	}
	s, err := compile(c.env, expression)
	c.compiled.Add(expression, compiled{s, err})
	return s, err
}

func environment() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.Variable("device", cel.MapType(cel.StringType, cel.DynType)),
		cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(), ext.Strings(ext.StringsVersion(2)), ext.Sets(), ext.Lists(), ext.Bindings(), ext.TwoVarComprehensions(),
	}
	options = append(options, regexFunctions()...)
	options = append(options, quantityFunctions()...)
	return cel.NewEnv(append(options, versionFunctions()...)...)
}

func compile(env *cel.Env, expression string) (*Selector, error) {
	ast, issues := env.Compile(expression)
	if issues != nil && issues.Err() != nil {
		return nil, fmt.Errorf("CEL compile error: %w", issues.Err())
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("CEL compile error: must evaluate to bool, not %s", t)
	}
	program, err := env.Program(ast, cel.CostLimit(resourcev1.CELSelectorExpressionMaxCost))
	if err != nil {
		return nil, fmt.Errorf("CEL compile error: %w", err)
	}
	return &Selector{program: program, adapter: env.CELTypeAdapter()}, nil
}

// Matches says whether the expression is true of a device of a driver.
func (s *Selector) Matches(driver string, d *resourcev1.Device) (bool, error) {
	attributes, capacity := map[string]any{}, map[string]any{}
	for name, a := range d.Attributes {
		value, err := attribute(a)
		if err != nil {
			return false, fmt.Errorf("attribute %s: %w", name, err)
		}
		put(attributes, name, driver, value)
	}
	for name, c := range d.Capacity {
		put(capacity, name, driver, quantity{&c.Value})
	}
	result, _, err := s.program.Eval(map[string]any{"device": map[string]any{
		"driver": driver, "allowMultipleAllocations": d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations,
		"attributes": s.domains(attributes), "capacity": s.domains(capacity),
	}})
	if err != nil {
		return false, fmt.Errorf("CEL runtime error: %w", err)
	}
	is, ok := result.Value().(bool)
	if !ok {
		return false, fmt.Errorf("CEL runtime error: the result is of type %s, not bool", result.Type().TypeName())
	}
	return is, nil
}

func attribute(a resourcev1.DeviceAttribute) (any, error) {
	switch {
	case a.IntValue != nil:
		return *a.IntValue, nil
	case a.BoolValue != nil:
		return *a.BoolValue, nil
	case a.StringValue != nil:
		return *a.StringValue, nil
	case a.VersionValue != nil:
		return parseVersion(*a.VersionValue)
	}
	return nil, fmt.Errorf("unsupported attribute value")
}

func put(domains map[string]any, name resourcev1.QualifiedName, driver string, value any) {
	domain, id, qualified := strings.Cut(string(name), "/")
	if !qualified {
		domain, id = driver, string(name)
	}
	in, ok := domains[domain].(map[string]any)
	if !ok {
		in = map[string]any{}
		domains[domain] = in
	}
	in[id] = value
}

// domains is a map in which a key that is not there stands for an empty map.
func (s *Selector) domains(in map[string]any) traits.Mapper {
	return lenient{types.NewStringInterfaceMap(s.adapter, in), s.adapter.NativeToValue(map[string]any{})}
}

type lenient struct {
	traits.Mapper
	otherwise ref.Val
}

// Find implements traits.Mapper.
func (l lenient) Find(key ref.Val) (ref.Val, bool) {
	if v, ok := l.Mapper.Find(key); ok {
		return v, ok
	}
	return l.otherwise, true
}

// Get implements traits.Indexer.
func (l lenient) Get(key ref.Val) ref.Val {
	v, _ := l.Find(key)
	return v
}
