package table

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/resource"
)

func TestTables(t *testing.T) {
	data := resource.Column[corev1.ConfigMap]{Name: "Data", Type: "integer", Value: func(c *corev1.ConfigMap) any { return int64(len(c.Data)) }}
	named := resource.Column[corev1.ConfigMap]{Name: "Name", Value: func(c *corev1.ConfigMap) any { return "*" + c.Name }}
	obj := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "a", CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))},
		Data:       map[string]string{"k": "v"},
	}
	for _, test := range []struct {
		name    string
		columns []resource.Column[corev1.ConfigMap]
		names   []string
		cells   []any
	}{
		{"no columns", nil, []string{"Name", "Created At"}, []any{"a", "2026-01-02T03:04:05Z"}},
		{"columns follow the name", []resource.Column[corev1.ConfigMap]{data}, []string{"Name", "Data"}, []any{"a", int64(1)}},
		{"a kind may show its name otherwise", []resource.Column[corev1.ConfigMap]{data, named}, []string{"Name", "Data"}, []any{"*a", int64(1)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := resource.Define(scheme.Scheme, resource.Spec[corev1.ConfigMap]{
				Names: resource.Names{Version: "v1", Kind: "ConfigMap", Plural: "configmaps"}, Columns: test.columns,
			})
			var names []string
			for _, d := range Definitions(k) {
				names = append(names, d.Name)
			}
			if !reflect.DeepEqual(names, test.names) {
				t.Errorf("columns %v", names)
			}
			if cells := Cells(k, obj); !reflect.DeepEqual(cells, test.cells) {
				t.Errorf("cells %v", cells)
			}
			for _, headers := range []bool{true, false} {
				head, err := Head(k, "v1", metav1.ListMeta{ResourceVersion: "7"}, headers)
				if err != nil {
					t.Fatal(err)
				}
				row, err := json.Marshal(Row{Cells: Cells(k, obj), Object: []byte("null")})
				if err != nil {
					t.Fatal(err)
				}
				var whole metav1.Table
				if err := json.Unmarshal(append(append(head, row...), "]}"...), &whole); err != nil {
					t.Fatal(err)
				}
				if len(whole.Rows) != 1 || (len(whole.ColumnDefinitions) > 0) != headers || whole.ResourceVersion != "7" || whole.Kind != "Table" {
					t.Errorf("table %+v", whole)
				}
			}
		})
	}
}
