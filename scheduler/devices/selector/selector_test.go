package selector

import (
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func card() *resourcev1.Device {
	yes, cores, model, version := true, int64(8), "A100", "1.22.3"
	return &resourcev1.Device{
		Name: "d0", AllowMultipleAllocations: &yes,
		Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{
			"cores": {IntValue: &cores}, "model": {StringValue: &model}, "other.example.com/shiny": {BoolValue: &yes}, "firmware": {VersionValue: &version},
		},
		Capacity: map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse("40Gi")}},
	}
}

func TestExpressions(t *testing.T) {
	cache := NewCache()
	for _, test := range []struct {
		expression string
		want       bool
		wrong      string // part of the error
	}{
		{expression: `device.driver == "gpu.example.com"`, want: true},
		{expression: `device.driver == "other"`},
		{expression: `device.allowMultipleAllocations`, want: true},
		{expression: `device.attributes["gpu.example.com"].model == "A100"`, want: true},
		{expression: `device.attributes["gpu.example.com"].cores >= 8 && device.attributes["other.example.com"].shiny`, want: true},
		{expression: `"nothing" in device.attributes["nowhere.example.com"]`},
		{expression: `device.attributes["other.example.com"].shiny`, want: true},
		{expression: `device.attributes["gpu.example.com"].firmware.isGreaterThan(semver("1.9.0"))`, want: true},
		{expression: `device.attributes["gpu.example.com"].firmware.compareTo(semver("v1.22.3", true)) == 0`, want: true},
		{expression: `device.attributes["gpu.example.com"].firmware.minor() == 22 && isSemver("1.0.0") && !isSemver("1")`, want: true},
		{expression: `device.capacity["gpu.example.com"].memory.compareTo(quantity("40Gi")) >= 0`, want: true},
		{expression: `device.capacity["gpu.example.com"].memory.isLessThan(quantity("1Gi").add(quantity("38Gi")))`},
		{expression: `device.capacity["gpu.example.com"].memory.sub(1).asInteger() == 42949672959`, want: true},
		{expression: `cel.bind(gpu, device.attributes["gpu.example.com"], gpu.model.startsWith("A") && gpu.cores == 8)`, want: true},
		{expression: `device.attributes["gpu.example.com"].model.find("[0-9]+") == "100"`, want: true},
		{expression: `sets.contains(["A100", "H100"], [device.attributes["gpu.example.com"].model])`, want: true},
		{expression: `device.attributes["gpu.example.com"].missing == 1`, wrong: "no such key"},
		{expression: `device.attributes["gpu.example.com"].cores`, wrong: "not bool"},
		{expression: `1`, wrong: "must evaluate to bool"},
		{expression: `device.`, wrong: "compile error"},
		{expression: `quantity("x").isInteger()`, wrong: "runtime error"},
	} {
		s, err := cache.Get(test.expression)
		var got bool
		if err == nil {
			got, err = s.Matches("gpu.example.com", card())
		}
		if test.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%s: error %v, want one with %q", test.expression, err, test.wrong)
			}
		} else if err != nil || got != test.want {
			t.Errorf("%s: %v, %v, want %v", test.expression, got, err, test.want)
		}
	}
}

// TestCostIsLimited lets an expression go over a list of its own again and again.
func TestCostIsLimited(t *testing.T) {
	ten := "[" + strings.Repeat("1,", 99) + "1]"
	s, err := NewCache().Get(ten + ".all(a, " + ten + ".all(b, " + ten + ".all(c, " + ten + ".all(d, a+b+c+d > 0))))")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Matches("x", &resourcev1.Device{}); err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("error %v, want one of the cost limit", err)
	}
}

func FuzzExpression(f *testing.F) {
	f.Add(`device.driver == "x"`)
	f.Add(`device.capacity["x"].y.isGreaterThan(quantity("1"))`)
	cache := NewCache()
	f.Fuzz(func(_ *testing.T, expression string) {
		if len(expression) > 200 {
			return
		}
		if s, err := cache.Get(expression); err == nil {
			_, _ = s.Matches("gpu.example.com", card()) // must not panic
		}
	})
}
