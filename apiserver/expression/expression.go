// Package expression compiles and evaluates the CEL expressions of the configuration of authentication and authorization.
// What an expression gets wrong is found when it is compiled: names, types, and what it yields. What an evaluation may
// cost is bounded.
package expression

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
)

// maxCost bounds one evaluation.
const maxCost = 1_000_000

// Variable is what expressions can name: a Go struct by its JSON fields, or with a nil Type a map of anything.
type Variable struct {
	Name string
	Type reflect.Type
}

// Env is what expressions are compiled in.
type Env struct{ env *cel.Env }

// NewEnv makes one.
func NewEnv(vars ...Variable) (*Env, error) {
	options := []cel.EnvOption{
		cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(), ext.Strings(ext.StringsVersion(2)), ext.Sets(),
	}
	for _, v := range vars {
		typ := cel.MapType(cel.StringType, cel.DynType)
		if v.Type != nil {
			options = append(options, ext.NativeTypes(ext.ParseStructTag("json"), v.Type))
			typ = cel.ObjectType(v.Type.String())
		}
		options = append(options, cel.Variable(v.Name, typ))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("environment of expressions: %w", err)
	}
	return &Env{env}, nil
}

// Program is a compiled expression.
type Program struct {
	Text    string
	program cel.Program
}

// Compile compiles an expression, which must yield one of these types.
func (e *Env) Compile(text string, yields ...*cel.Type) (*Program, error) {
	ast, issues := e.env.Compile(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("compile %q: %w", text, issues.Err())
	}
	if !slices.ContainsFunc(yields, func(t *cel.Type) bool {
		return ast.OutputType().IsExactType(t) || ast.OutputType().IsExactType(cel.DynType)
	}) {
		return nil, fmt.Errorf("compile %q: it yields %v, not %v", text, ast.OutputType(), yields)
	}
	program, err := e.env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("compile %q: %w", text, err)
	}
	return &Program{text, program}, nil
}

// Value evaluates the expression.
func (p *Program) Value(ctx context.Context, vars map[string]any) (ref.Val, error) {
	out, _, err := p.program.ContextEval(ctx, vars)
	if err != nil {
		return nil, fmt.Errorf("evaluate %q: %w", p.Text, err)
	}
	return out, nil
}

// Bool evaluates an expression that yields true or false.
func (p *Program) Bool(ctx context.Context, vars map[string]any) (bool, error) {
	out, err := p.Value(ctx, vars)
	if err != nil {
		return false, err
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("evaluate %q: it yields %v, not true or false", p.Text, out.Type())
	}
	return b, nil
}
