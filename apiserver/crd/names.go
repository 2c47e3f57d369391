package crd

import (
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"hardway/apiserver/kinds/apiextensions"
)

type definition = apiextensionsv1.CustomResourceDefinition

// decide gives a definition the names that no other definition of its group has, and says so in its conditions. It
// changes d. Others are all definitions, d's own old state among them.
func decide(d *definition, others []*definition) {
	words, kinds := taken(d, others)
	want, got := d.Spec.Names, &d.Status.AcceptedNames
	var reason, trouble string
	clash := func(why string, used ...string) {
		reason = why
		for i := range used {
			used[i] = fmt.Sprintf("%q is already in use", used[i])
		}
		trouble = strings.Join(append(strings.FieldsFunc(trouble, func(r rune) bool { return r == '\n' }), used...), "\n")
	}
	word := func(to *string, wish, why string, used []string) {
		if wish != *to && slices.Contains(used, wish) {
			clash(why, wish)
			return
		}
		*to = wish
	}
	word(&got.Plural, want.Plural, "PluralConflict", words)
	word(&got.Singular, want.Singular, "SingularConflict", words)
	var short []string
	for _, s := range want.ShortNames {
		if slices.Contains(words, s) {
			short = append(short, s)
		}
	}
	if len(short) > 0 {
		clash("ShortNamesConflict", short...)
	} else {
		got.ShortNames = want.ShortNames
	}
	word(&got.Kind, want.Kind, "KindConflict", kinds)
	word(&got.ListKind, want.ListKind, "ListKindConflict", kinds)
	got.Categories = want.Categories
	conditions(d, reason, trouble)
}

// taken are the names that other definitions of the group have: words for resources, and kinds.
func taken(d *definition, others []*definition) (words, kinds []string) {
	for _, o := range others {
		if o.Name == d.Name || o.Spec.Group != d.Spec.Group {
			continue
		}
		n := o.Status.AcceptedNames
		words = append(append(words, n.Plural, n.Singular), n.ShortNames...)
		kinds = append(kinds, n.Kind, n.ListKind)
	}
	empty := func(s string) bool { return s == "" }
	return slices.DeleteFunc(words, empty), slices.DeleteFunc(kinds, empty)
}

// conditions says whether all names are the definition's, in upstream's words.
func conditions(d *definition, reason, trouble string) {
	names := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found",
	}
	if reason != "" {
		names.Status, names.Reason, names.Message = apiextensionsv1.ConditionFalse, reason, trouble
	}
	apiextensions.SetCondition(d, names)
	switch {
	case apiextensions.Established(d):
	case reason != "":
		apiextensions.SetCondition(d, apiextensionsv1.CustomResourceDefinitionCondition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "NotAccepted", Message: "not all names are accepted",
		})
	case apiextensions.Condition(d, apiextensionsv1.Established) == nil:
		apiextensions.SetCondition(d, apiextensionsv1.CustomResourceDefinitionCondition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "Installing", Message: "the initial names have been accepted",
		})
	}
}

// establish says that objects of the kind are served.
func establish(d *definition) {
	apiextensions.SetCondition(d, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue, Reason: "InitialNamesAccepted", Message: "the initial names have been accepted",
	})
}
