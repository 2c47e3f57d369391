package serve

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/request"
)

// decoders read bodies. They are the published serializers: their messages are what clients know.
type decoders struct {
	lenient, strict [2]runtime.Serializer // JSON, YAML
	protobuf        runtime.Serializer
}

func newDecoders(scheme *runtime.Scheme) *decoders {
	d := &decoders{protobuf: protobuf.NewSerializer(scheme, scheme)}
	for i, yaml := range []bool{false, true} {
		d.lenient[i] = json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: yaml})
		d.strict[i] = json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: yaml, Strict: true})
	}
	return d
}

func (d *decoders) of(enc encoding, strict bool) runtime.Serializer {
	switch {
	case enc == inProtobuf:
		return d.protobuf
	case strict:
		return d.strict[enc]
	}
	return d.lenient[enc]
}

// decode reads the body into an object of the wanted kind. An object of another kind or version is refused; unknown and
// duplicate fields are refused, warned about or dropped, as validation says.
func (c *call) decode(into runtime.Object, want schema.GroupVersionKind, validation string) error {
	enc, err := bodyEncoding(c.r)
	if err != nil {
		return err
	}
	data, err := c.readBody()
	if err != nil {
		return err
	}
	if err := c.decodeBytes(enc, data, into, want, validation); err != nil {
		return err
	}
	if obj, ok := into.(metav1.Object); ok {
		request.StateOf(c.r.Context()).Sent = obj
	}
	return nil
}

func (c *call) decodeBytes(enc encoding, data []byte, into runtime.Object, want schema.GroupVersionKind, validation string) error {
	validation = directive(validation)
	if _, ok := into.(*unstructured.Unstructured); ok {
		return c.decodeForm(enc, data, into, want, validation)
	}
	obj, got, err := c.s.decoders.of(enc, validation != metav1.FieldValidationIgnore).Decode(data, &want, into)
	if err != nil {
		unknown, ok := runtime.AsStrictDecodingError(err)
		if !ok || obj == nil || validation != metav1.FieldValidationWarn {
			return undecodable(err, want, got, data)
		}
		for _, e := range unknown.Errors() {
			for _, text := range yamlErrors(e.Error()) {
				request.Warn(c.r.Context(), text)
			}
		}
	}
	if got.GroupVersion() != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
	}
	if got.Kind != want.Kind || reflect.TypeOf(obj) != reflect.TypeOf(into) {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: the kind in the data does not match the kind of the URL", got.Kind, got.Version, want.Kind))
	}
	if obj != into {
		reflect.ValueOf(into).Elem().Set(reflect.ValueOf(obj).Elem())
	}
	return nil
}

// decodeForm does the same for a kind that reads its objects itself.
func (c *call) decodeForm(enc encoding, data []byte, into runtime.Object, want schema.GroupVersionKind, validation string) error {
	var twice error
	switch enc {
	case inProtobuf:
		return unsupported(mediaJSON, mediaYAML)
	case inYAML:
		text, err := yaml.YAMLToJSON(data)
		if err != nil {
			return undecodable(err, want, nil, data)
		}
		if validation != metav1.FieldValidationIgnore {
			_, twice = yaml.YAMLToJSONStrict(data)
		}
		data = text
	}
	obj, unknown, err := c.kind.Form.Read(data)
	if err != nil {
		return undecodable(err, want, nil, data)
	}
	if twice != nil {
		unknown = append([]error{twice}, unknown...)
	}
	got := obj.GetObjectKind().GroupVersionKind()
	if got.GroupVersion() != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
	}
	if got.Kind != want.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: the kind in the data does not match the kind of the URL", got.Kind, got.Version, want.Kind))
	}
	if len(unknown) > 0 && validation == metav1.FieldValidationStrict {
		return undecodable(runtime.NewStrictDecodingError(unknown), want, &got, data)
	}
	if validation == metav1.FieldValidationWarn {
		c.warnUnknown(unknown)
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(obj).Elem())
	return nil
}

func undecodable(err error, want schema.GroupVersionKind, got *schema.GroupVersionKind, data []byte) error {
	if got != nil && got.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", got.Kind, got.Version, want.Kind, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(data)))
}

// summary shows the beginning of a body that could not be read.
func summary(data []byte) string {
	const most = 30
	text, more := "<empty>", ""
	if len(data) > 0 {
		cut := data[:min(len(data), most)]
		if len(data) > most {
			more = " ..."
		}
		if text = string(cut); data[0] != '{' {
			text = hex.EncodeToString(cut)
		}
	}
	return text + more
}

// yamlErrors splits what the YAML reader says into one sentence per trouble.
func yamlErrors(text string) []string {
	rest, ok := strings.CutPrefix(text, "error converting YAML to JSON: ")
	if !ok {
		if rest, ok = strings.CutPrefix(text, "error unmarshaling JSON: while decoding JSON: "); !ok {
			return []string{text}
		}
	}
	rest = strings.TrimPrefix(rest, "yaml: unmarshal errors:\n")
	var out []string
	for line := range strings.SplitSeq(rest, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// decodeOptions reads DeleteOptions, which clients send with the version of the object's group or of meta.k8s.io.
func (s *Server) decodeOptions(enc encoding, data []byte, into *metav1.DeleteOptions) error {
	want := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
	obj, got, err := s.decoders.of(enc, false).Decode(data, &want, into)
	if err != nil {
		return err
	}
	if got.Kind != want.Kind || obj != runtime.Object(into) {
		return fmt.Errorf("decoded object cannot be converted to DeleteOptions")
	}
	return nil
}
