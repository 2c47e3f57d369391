// Package table turns objects into the rows that `kubectl get` prints: a Name and what the kind's columns say.
//
// Cells come from resource.Kind.Columns. A kind that declares none gets Name and Created At, as upstream's do.
package table

import (
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/resource"
)

// Definitions returns the columns of a kind, the name first.
func Definitions(k *resource.Kind) []metav1.TableColumnDefinition {
	doc := metav1.ObjectMeta{}.SwaggerDoc()
	defs := []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name", Description: doc["name"]}}
	if len(k.Columns) == 0 {
		return append(defs, metav1.TableColumnDefinition{Name: "Created At", Type: "date", Description: doc["creationTimestamp"]})
	}
	for _, c := range k.Columns {
		if c.Name == "Name" {
			defs[0] = c.TableColumnDefinition
			continue
		}
		defs = append(defs, c.TableColumnDefinition)
	}
	return defs
}

// Cells returns one object's cells, in the order of Definitions.
func Cells(k *resource.Kind, obj resource.Object) []any {
	cells := make([]any, 1, 1+max(1, len(k.Columns)))
	cells[0] = obj.GetName()
	if len(k.Columns) == 0 {
		return append(cells, obj.GetCreationTimestamp().UTC().Format(time.RFC3339))
	}
	for _, c := range k.Columns {
		if c.Name == "Name" {
			cells[0] = c.Value(obj)
			continue
		}
		cells = append(cells, c.Value(obj))
	}
	return cells
}

// Row is a TableRow whose object is encoded already.
type Row struct {
	Cells  []any           `json:"cells"`
	Object json.RawMessage `json:"object"`
}

// Head returns the JSON of a Table up to the rows, which the caller appends, comma-separated, before "]}". Without
// headers the definitions are null, as for all but the first event of a watch.
func Head(k *resource.Kind, version string, meta metav1.ListMeta, headers bool) ([]byte, error) {
	head := struct {
		metav1.TypeMeta   `json:",inline"`
		Metadata          metav1.ListMeta                `json:"metadata"`
		ColumnDefinitions []metav1.TableColumnDefinition `json:"columnDefinitions"`
		Rows              struct{}                       `json:"rows"`
	}{TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/" + version}, Metadata: meta}
	if headers {
		head.ColumnDefinitions = Definitions(k)
	}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	return append(b[:len(b)-len("{}}")], '['), nil
}
