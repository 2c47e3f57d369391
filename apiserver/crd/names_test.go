package crd

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/kinds/apiextensions"
)

func named(group, plural, kind string, short ...string) *definition {
	d := &definition{ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group}}
	d.Spec.Group = group
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: plural[:len(plural)-1], Kind: kind, ListKind: kind + "List", ShortNames: short}
	return d
}

func TestDecide(t *testing.T) {
	for name, test := range map[string]struct {
		d                *definition
		reason, message  string
		plural, kindName string
	}{
		"all free":            {named("a.b", "foos", "Foo", "f"), "", "no conflicts found", "foos", "Foo"},
		"another group":       {named("c.d", "bars", "Bar", "ba"), "", "no conflicts found", "bars", "Bar"},
		"kind taken":          {named("a.b", "foos", "Bar"), "ListKindConflict", "\"Bar\" is already in use\n\"BarList\" is already in use", "foos", ""},
		"plural is a short":   {named("a.b", "bas", "Foo"), "PluralConflict", `"bas" is already in use`, "", "Foo"},
		"short is a singular": {named("a.b", "foos", "Foo", "bar"), "ShortNamesConflict", `"bar" is already in use`, "foos", "Foo"},
	} {
		t.Run(name, func(t *testing.T) {
			other := named("a.b", "bars", "Bar", "b", "bas")
			decide(other, nil)
			decide(test.d, []*definition{other, test.d})
			c := apiextensions.Condition(test.d, apiextensionsv1.NamesAccepted)
			if ok := c.Status == apiextensionsv1.ConditionTrue; ok != (test.reason == "") || !ok && c.Reason != test.reason || c.Message != test.message {
				t.Errorf("%+v", c)
			}
			if got := test.d.Status.AcceptedNames; got.Plural != test.plural || got.Kind != test.kindName {
				t.Errorf("%+v", got)
			}
			if apiextensions.Established(test.d) {
				t.Error("established before it is served")
			}
			again := test.d.DeepCopy()
			if decide(again, []*definition{other, test.d}); again.String() != test.d.String() {
				t.Error("a second time changes the decision")
			}
		})
	}
}
