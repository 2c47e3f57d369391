package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// maxOperations bounds the operations of one JSON patch, as upstream does.
const maxOperations = 10000

// LimitCopies bounds what the "copy" operations of one JSON patch may add up to, in bytes: a small patch must not make
// a huge object. The library keeps the bound in a variable of its own, so this is called once, at start.
func LimitCopies(bytes int64) { jsonpatch.AccumulatedCopySizeLimit = bytes }

// Accepted are the types of patches, as sent in Content-Type.
var Accepted = []string{
	string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType),
}

// Patch is a patch as it was sent.
type Patch struct {
	Type types.PatchType
	Data []byte
	// Validation is metav1.FieldValidationStrict, Warn or Ignore: what becomes of unknown and duplicate fields.
	Validation string
}

// To applies a JSON, merge or strategic merge patch to current, whose apiVersion and kind are set, and decodes the
// result into empty, which is of the same type. Current is not changed. Warnings tell of unknown or duplicate fields
// when Validation is Warn; errors are StatusErrors. Read decodes the result of kinds that read their objects themselves;
// nil: the Go type of empty says what there is.
func (p Patch) To(current, empty runtime.Object, read func([]byte) (runtime.Object, []error, error)) (warnings []error, err error) {
	gvk := current.GetObjectKind().GroupVersionKind()
	if p.Type == types.StrategicMergePatchType {
		warnings, err = p.strategic(current, empty)
	} else {
		warnings, err = p.textual(current, empty, read)
	}
	if err != nil {
		return nil, err
	}
	if got := empty.GetObjectKind().GroupVersionKind(); got != gvk {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version and kind in the data (%s) do not match the expected ones (%s)", got, gvk))
	}
	return warnings, nil
}

func (p Patch) checks() bool { return p.Validation != metav1.FieldValidationIgnore }

// textual applies a patch to the object's JSON.
func (p Patch) textual(current, empty runtime.Object, read func([]byte) (runtime.Object, []error, error)) ([]error, error) {
	text, err := json.Marshal(current)
	if err != nil {
		return nil, fmt.Errorf("encode the object to patch: %w", err)
	}
	var strict []error
	var patched []byte
	if p.Type == types.JSONPatchType {
		patched, strict, err = p.jsonPatch(text)
	} else {
		patched, strict, err = p.mergePatch(text)
	}
	if err != nil {
		return nil, err
	}
	var more []error
	if read == nil {
		more, err = kjson.UnmarshalStrict(patched, empty)
	} else {
		var out runtime.Object
		if out, more, err = read(patched); err == nil {
			reflect.ValueOf(empty).Elem().Set(reflect.ValueOf(out).Elem())
		}
	}
	if err != nil {
		return nil, invalid(string(patched), err)
	}
	return p.judge(append(strict, more...), func() string { return string(patched) })
}

// operation is one step of a JSON patch, for the strict check of the patch itself.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

func (p Patch) jsonPatch(text []byte) (patched []byte, strict []error, err error) {
	if p.checks() {
		var steps []operation
		if strict, err = kjson.UnmarshalStrict(p.Data, &steps); err != nil {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
		for i, e := range strict {
			strict[i] = fmt.Errorf("json patch %w", e)
		}
	}
	steps, err := jsonpatch.DecodePatch(p.Data)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if len(steps) > maxOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(steps)))
	}
	if patched, err = steps.Apply(text); err != nil {
		return nil, nil, unprocessable(err)
	}
	return patched, strict, nil
}

func (p Patch) mergePatch(text []byte) (patched []byte, strict []error, err error) {
	if p.checks() {
		if strict, err = kjson.UnmarshalStrict(p.Data, &map[string]any{}); err != nil {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
	}
	if patched, err = jsonpatch.MergePatch(text, p.Data); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return patched, strict, nil
}

// strategic applies a strategic merge patch: lists merge by the keys that the Go type's tags name.
func (p Patch) strategic(current, empty runtime.Object) ([]error, error) {
	original, err := runtime.DefaultUnstructuredConverter.ToUnstructured(current)
	if err != nil {
		return nil, fmt.Errorf("read the object to patch: %w", err)
	}
	var strict []error
	patch := map[string]any{}
	if p.checks() {
		strict, err = kjson.UnmarshalStrict(p.Data, &patch)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(p.Data, &patch)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	patched, err := strategicpatch.StrategicMergeMapPatch(original, patch, empty)
	if err != nil {
		return nil, strategicError(err)
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(patched, empty, p.checks())
	if err != nil {
		unknown, ok := runtime.AsStrictDecodingError(err)
		if !ok {
			return nil, invalid(fmt.Sprintf("%+v", patch), err)
		}
		strict = append(strict, unknown.Errors()...)
	}
	return p.judge(strict, func() string { return fmt.Sprintf("%+v", patch) })
}

// judge turns unknown and duplicate fields into warnings or an error.
func (p Patch) judge(strict []error, shown func() string) ([]error, error) {
	switch {
	case len(strict) == 0 || p.Validation == metav1.FieldValidationIgnore:
		return nil, nil
	case p.Validation == metav1.FieldValidationStrict:
		return nil, invalid(shown(), runtime.NewStrictDecodingError(strict))
	}
	return strict, nil
}

func invalid(shown string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), shown, err.Error())})
}

// unprocessable refuses a patch that does not fit the object.
//
// Differs from upstream: the message says why, where upstream's speaks of an error in the request.
func unprocessable(err error) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: "the patch does not fit the object: " + err.Error(),
	}}
}

func strategicError(err error) error {
	for _, bad := range []error{
		mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList, mergepatch.ErrUnsupportedStrategicMergePatchFormat,
	} {
		if errors.Is(err, bad) {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	if errors.Is(err, mergepatch.ErrNoListOfLists) || errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys) {
		return unprocessable(err)
	}
	// Differs from upstream: what is left comes from the patch as well, and a patch that cannot be applied is not
	// the server's failure.
	return apierrors.NewBadRequest(err.Error())
}

// Unstructured reads an apply patch, YAML or JSON.
func (p Patch) Unstructured() (obj *unstructured.Unstructured, warnings []error, err error) {
	obj = &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(p.Data, &obj.Object); err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if !p.checks() {
		return obj, nil, nil
	}
	if err := yaml.UnmarshalStrict(p.Data, &map[string]any{}); err != nil {
		if p.Validation == metav1.FieldValidationStrict {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
		}
		return obj, []error{err}, nil
	}
	return obj, nil, nil
}
