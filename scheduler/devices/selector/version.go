package selector

import (
	"fmt"
	"reflect"
	"regexp"

	"github.com/blang/semver/v4"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

var versionType = cel.ObjectType("kubernetes.Semver")

// version is a semantic version as CEL sees it.
type version struct{ semver.Version }

func parseVersion(text string) (version, error) {
	v, err := semver.Parse(text)
	if err != nil {
		return version{}, fmt.Errorf("parse semantic version %q: %w", text, err)
	}
	return version{v}, nil
}

// ConvertToNative implements ref.Val.
func (v version) ConvertToNative(to reflect.Type) (any, error) {
	if reflect.TypeOf(v.Version).AssignableTo(to) {
		return v.Version, nil
	}
	return nil, fmt.Errorf("a semantic version is no %s", to)
}

// ConvertToType implements ref.Val.
func (v version) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case types.TypeType:
		return versionType
	case types.StringType:
		return types.String(v.String())
	}
	return types.NewErr("a semantic version is no %s", to.TypeName())
}

// Equal implements ref.Val.
func (v version) Equal(other ref.Val) ref.Val {
	o, ok := other.(version)
	return types.Bool(ok && v.EQ(o.Version))
}

// Type implements ref.Val.
func (version) Type() ref.Type { return versionType }

// Value implements ref.Val.
func (v version) Value() any { return v.Version }

func versionFunctions() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Function("semver",
			cel.Overload("string_to_semver", []*cel.Type{cel.StringType}, versionType, cel.UnaryBinding(func(v ref.Val) ref.Val { return toVersion(v, types.False) })),
			cel.Overload("string_bool_to_semver", []*cel.Type{cel.StringType, cel.BoolType}, versionType, cel.BinaryBinding(toVersion))),
		cel.Function("isSemver",
			cel.Overload("is_semver_string", []*cel.Type{cel.StringType}, cel.BoolType, cel.UnaryBinding(func(v ref.Val) ref.Val { return isVersion(v, types.False) })),
			cel.Overload("is_semver_string_bool", []*cel.Type{cel.StringType, cel.BoolType}, cel.BoolType, cel.BinaryBinding(isVersion))),
		versionPart("major", func(v version) uint64 { return v.Major }),
		versionPart("minor", func(v version) uint64 { return v.Minor }),
		versionPart("patch", func(v version) uint64 { return v.Patch }),
		versionCompare("isGreaterThan", cel.BoolType, func(c int) ref.Val { return types.Bool(c > 0) }),
		versionCompare("isLessThan", cel.BoolType, func(c int) ref.Val { return types.Bool(c < 0) }),
		versionCompare("compareTo", cel.IntType, func(c int) ref.Val { return types.Int(c) }),
	}
}

// toVersion reads a version; with normalize, parts may be missing and a v may stand before it.
func toVersion(text, normalize ref.Val) ref.Val {
	s := fmt.Sprint(text.Value())
	if normalize == types.True {
		v, err := semver.ParseTolerant(s)
		if err != nil {
			return types.WrapErr(err)
		}
		return version{v}
	}
	v, err := parseVersion(s)
	if err != nil {
		return types.WrapErr(err)
	}
	return v
}

func isVersion(text, normalize ref.Val) ref.Val {
	return types.Bool(!types.IsError(toVersion(text, normalize)))
}

func versionPart(name string, f func(version) uint64) cel.EnvOption {
	return cel.Function(name, cel.MemberOverload("semver_"+name, []*cel.Type{versionType}, cel.IntType, cel.UnaryBinding(func(v ref.Val) ref.Val {
		of, ok := v.(version)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		return types.Int(f(of)) //nolint:gosec // no version is that high
	})))
}

func versionCompare(name string, result *cel.Type, f func(int) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.MemberOverload("semver_"+name, []*cel.Type{versionType, versionType}, result, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
		x, ok1 := a.(version)
		y, ok2 := b.(version)
		if !ok1 || !ok2 {
			return types.MaybeNoSuchOverloadErr(a)
		}
		return f(x.Compare(y.Version))
	})))
}

// regexFunctions are find and findAll, which CEL does not have.
func regexFunctions() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Function("find", cel.MemberOverload("string_find_string", []*cel.Type{cel.StringType, cel.StringType}, cel.StringType,
			cel.BinaryBinding(func(text, pattern ref.Val) ref.Val {
				re, err := regexp.Compile(fmt.Sprint(pattern.Value()))
				if err != nil {
					return types.NewErr("illegal regex: %v", err)
				}
				return types.String(re.FindString(fmt.Sprint(text.Value())))
			}))),
		cel.Function("findAll", cel.MemberOverload("string_find_all_string", []*cel.Type{cel.StringType, cel.StringType}, cel.ListType(cel.StringType),
			cel.BinaryBinding(func(text, pattern ref.Val) ref.Val {
				re, err := regexp.Compile(fmt.Sprint(pattern.Value()))
				if err != nil {
					return types.NewErr("illegal regex: %v", err)
				}
				return types.NewStringList(types.DefaultTypeAdapter, re.FindAllString(fmt.Sprint(text.Value()), -1))
			}))),
	}
}
