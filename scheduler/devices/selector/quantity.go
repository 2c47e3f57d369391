package selector

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/api/resource"
)

var quantityType = cel.ObjectType("kubernetes.Quantity")

// quantity is an amount as CEL sees it.
type quantity struct{ *resource.Quantity }

// ConvertToNative implements ref.Val.
func (q quantity) ConvertToNative(to reflect.Type) (any, error) {
	if reflect.TypeOf(q.Quantity).AssignableTo(to) {
		return q.Quantity, nil
	}
	return nil, fmt.Errorf("a quantity is no %s", to)
}

// ConvertToType implements ref.Val.
func (q quantity) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case types.TypeType:
		return quantityType
	case types.StringType:
		return types.String(q.String())
	}
	return types.NewErr("a quantity is no %s", to.TypeName())
}

// Equal implements ref.Val.
func (q quantity) Equal(other ref.Val) ref.Val {
	o, ok := other.(quantity)
	return types.Bool(ok && q.Cmp(*o.Quantity) == 0)
}

// Type implements ref.Val.
func (quantity) Type() ref.Type { return quantityType }

// Value implements ref.Val.
func (q quantity) Value() any { return q.Quantity }

// plus is q with n times other.
func (q quantity) plus(other resource.Quantity, sign int) ref.Val {
	sum := q.DeepCopy()
	if sign < 0 {
		sum.Sub(other)
	} else {
		sum.Add(other)
	}
	return quantity{&sum}
}

func quantityFunctions() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Function("quantity", cel.Overload("string_to_quantity", []*cel.Type{cel.StringType}, quantityType, cel.UnaryBinding(func(v ref.Val) ref.Val {
			q, err := resource.ParseQuantity(fmt.Sprint(v.Value()))
			if err != nil {
				return types.WrapErr(err)
			}
			return quantity{&q}
		}))),
		cel.Function("isQuantity", cel.Overload("is_quantity_string", []*cel.Type{cel.StringType}, cel.BoolType, cel.UnaryBinding(func(v ref.Val) ref.Val {
			_, err := resource.ParseQuantity(fmt.Sprint(v.Value()))
			return types.Bool(err == nil)
		}))),
		quantityMethod("sign", cel.IntType, func(q quantity) ref.Val { return types.Int(q.Sign()) }),
		quantityMethod("isInteger", cel.BoolType, func(q quantity) ref.Val {
			_, is := q.AsInt64()
			return types.Bool(is)
		}),
		quantityMethod("asInteger", cel.IntType, func(q quantity) ref.Val {
			n, is := q.AsInt64()
			if !is {
				return types.NewErr("the quantity %s is no integer", q)
			}
			return types.Int(n)
		}),
		quantityMethod("asApproximateFloat", cel.DoubleType, func(q quantity) ref.Val { return types.Double(q.AsApproximateFloat64()) }),
		quantityCompare("isGreaterThan", cel.BoolType, func(c int) ref.Val { return types.Bool(c > 0) }),
		quantityCompare("isLessThan", cel.BoolType, func(c int) ref.Val { return types.Bool(c < 0) }),
		quantityCompare("compareTo", cel.IntType, func(c int) ref.Val { return types.Int(c) }),
		quantitySum("add", 1), quantitySum("sub", -1),
	}
}

func quantityMethod(name string, result *cel.Type, f func(quantity) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.MemberOverload("quantity_"+name, []*cel.Type{quantityType}, result, cel.UnaryBinding(func(v ref.Val) ref.Val {
		q, ok := v.(quantity)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		return f(q)
	})))
}

func quantityCompare(name string, result *cel.Type, f func(int) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.MemberOverload("quantity_"+name, []*cel.Type{quantityType, quantityType}, result, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
		x, ok1 := a.(quantity)
		y, ok2 := b.(quantity)
		if !ok1 || !ok2 {
			return types.MaybeNoSuchOverloadErr(a)
		}
		return f(x.Cmp(*y.Quantity))
	})))
}

func quantitySum(name string, sign int) cel.EnvOption {
	bind := cel.BinaryBinding(func(a, b ref.Val) ref.Val {
		x, ok := a.(quantity)
		if !ok {
			return types.MaybeNoSuchOverloadErr(a)
		}
		switch y := b.(type) {
		case quantity:
			return x.plus(*y.Quantity, sign)
		case types.Int:
			return x.plus(*resource.NewQuantity(int64(y), resource.DecimalSI), sign)
		}
		return types.MaybeNoSuchOverloadErr(b)
	})
	return cel.Function(name,
		cel.MemberOverload("quantity_"+name, []*cel.Type{quantityType, quantityType}, quantityType, bind),
		cel.MemberOverload("quantity_"+name+"_int", []*cel.Type{quantityType, cel.IntType}, quantityType, bind))
}
