package resource

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is an API object of any kind.
type Object interface {
	runtime.Object
	metav1.Object
}

// Scope says whether objects of a kind live in a namespace.
type Scope bool

// The two scopes.
const (
	Namespaced Scope = true
	Cluster    Scope = false
)

// Names are the words of a kind.
type Names struct {
	Group, Version string
	Kind           string
	List           string // default Kind + "List"
	Plural         string
	Singular       string   // default the lower-case Kind
	Short          []string // such as "po"
	Categories     []string // such as "all"
}

// Spec declares the kind of Go type T. Every hook may be nil: the ordinary behaviour.
type Spec[T any] struct {
	Names Names
	Scope Scope

	// StorageKey is the path below /registry/, upstream's: default Plural.
	StorageKey string

	// Verbs limits what can be done; nil means all of create delete deletecollection get list patch update watch.
	Verbs []string

	// Default fills what the user left out. It runs after decoding and on every object read from storage.
	Default func(obj *T)

	// Status says that the kind has a status subresource: create and update keep the stored status (create: the
	// empty one), updates of the status keep the rest. SetStatus copies the status of src into dst.
	SetStatus func(dst, src *T)
	// StatusOnCreate lets a create bring its status along. Only Nodes do.
	StatusOnCreate bool

	// Generation counts the changes of what SpecChanged reports; nil: the kind has no generation.
	SpecChanged func(obj, old *T) bool

	// Prepare drops or sets fields that the user may not choose, before admission. Old is nil on create.
	Prepare func(ctx context.Context, obj, old *T)

	// Validate returns what is wrong with an object, new or changed; ValidateCreate what else is wrong with a new one,
	// ValidateUpdate what else is wrong with a change. Metadata is checked elsewhere.
	Validate       func(obj *T) field.ErrorList
	ValidateCreate func(obj *T) field.ErrorList
	ValidateUpdate func(obj, old *T) field.ErrorList
	// ValidateName checks metadata.name; nil means a DNS subdomain.
	ValidateName func(name string) []string
	// ValidateStatusUpdate returns what is wrong with a change through the status subresource.
	ValidateStatusUpdate func(obj, old *T) field.ErrorList

	// Warnings are sentences for the Warning header of a create or update. Old is nil on create.
	Warnings func(obj, old *T) []string

	// GracePeriod gives the seconds between the request to delete and the end, from the options' wish (nil: none
	// given); nil: objects go at once. Only Pods have one.
	GracePeriod func(obj *T, wish *int64) int64

	// OnDelete runs instead of a plain delete: it may change the object to be finished later (return true), as a
	// Namespace does with its finalizer. It is asked again after every update of an object that is being deleted:
	// false, and no finalizers in the metadata, ends it.
	OnDelete func(obj *T) (keep bool)

	// ReturnDeleted says that DELETE answers with the deleted object instead of a Status, as upstream does for this
	// kind. An object that is only marked for deletion is returned in any case.
	ReturnDeleted bool

	// OrphanByDefault says that a DELETE that names no propagation leaves dependents alone: what these kinds did before
	// there was a garbage collector.
	OrphanByDefault bool

	// AllowCreateOnUpdate lets PUT create an absent object (Lease, ConfigMap: no; Endpoints, Lease: as upstream).
	AllowCreateOnUpdate bool
	// AllowUnconditionalUpdate lets PUT without a resourceVersion overwrite whatever is there.
	AllowUnconditionalUpdate bool

	// TTL is how many seconds an object lives, 0 for ever. Only Events have one.
	TTL func(obj *T) int64

	// Fields are the selectable fields beside metadata.name and metadata.namespace.
	Fields map[string]func(obj *T) string
	// Indexed names the fields of Fields by which watches are indexed, such as spec.nodeName.
	Indexed []string

	// Columns are what `kubectl get` prints after the name. A column called "Name" takes the name's place: then
	// none is put first.
	Columns []Column[T]

	// Subresources beside status.
	Subresources []Subresource

	// Versions are further served versions of the same stored objects.
	Versions []Version

	// Formerly are versions in which objects may lie in etcd though they are not served: upstream still writes them. Only
	// Names, New and ToStorage are needed.
	Formerly []Version

	// Review makes the kind a question: it can only be created, is never stored, and the answer is obj as Review
	// leaves it. Verbs is "create".
	Review func(ctx context.Context, obj *T, judge Judge) error
	// Observe makes the kind a view: its objects are found out when somebody asks, and never stored. Verbs are "get" and
	// "list".
	Observe func(ctx context.Context, judge Judge) []*T
	// Through makes creating the kind another way to create a subresource; nothing is stored under its own name. Verbs is
	// "create".
	Through *Through

	// Deprecated is a sentence for the Warning header of every request; empty: the kind is current.
	Deprecated string
}

// Through names the subresource that a kind's objects go to: that of the parent with their name.
type Through struct{ Parent, Subresource string }

// Judge answers the questions of the review kinds: authentication and authorization in the words of the API.
type Judge interface {
	// May says whether the user named in the spec may do what it describes, and why.
	May(ctx context.Context, spec *authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)
	// Rules lists what a user may do in a namespace, as far as that can be listed.
	Rules(ctx context.Context, user, uid string, groups []string, namespace string) authorizationv1.SubjectRulesReviewStatus
	// Who says for whom a token stands.
	Who(ctx context.Context, spec *authenticationv1.TokenReviewSpec) authenticationv1.TokenReviewStatus
	// Components says how the daemons that run beside this server are.
	Components(ctx context.Context) []*corev1.ComponentStatus
	// Issue fills in the status of a request for a token of an account.
	Issue(ctx context.Context, account *corev1.ServiceAccount, r *authenticationv1.TokenRequest) error
}

// Column is one column of a table.
type Column[T any] struct {
	Name     string
	Value    func(obj *T) any // string, int64, bool, or "<none>"
	Wide     bool             // only with -o wide (priority 1)
	Type     string           // default "string"
	Format   string
	Describe string
}

// Subresource is a path below an object that is not the object itself.
type Subresource struct {
	Name  string                  // "scale", "binding", "log", "exec", "finalize", ...
	Kind  schema.GroupVersionKind // what it speaks, such as autoscaling/v1 Scale
	Verbs []string                // get, update, patch, create

	// Read makes the subresource's object from the parent, Write changes the parent by one that was sent: this is
	// all that scale, binding, finalize and the like need. Without Read the answer to a Write is a Status
	// (binding). All of Read, Write and Delete nil: the server connects it to a handler by name (log, exec, attach,
	// portforward, proxy).
	Read  func(parent Object) (runtime.Object, error)
	Write func(ctx context.Context, parent Object, sent runtime.Object) error
	// New makes an empty object to decode into. Needed with Write and Delete.
	New func() runtime.Object
	// Delete makes sending to the subresource a delete of the parent, with the options it returns (Eviction). Write,
	// if there is one too, runs first and is stored first.
	Delete func(parent Object, sent runtime.Object) (*metav1.DeleteOptions, error)
	// Answer fills in what was sent, which is then the answer; nothing is stored (a TokenRequest).
	Answer func(ctx context.Context, parent Object, sent runtime.Object, judge Judge) error
	// Validate checks the parent after Write, instead of the kind's own rules.
	Validate func(obj, old Object) field.ErrorList
}

// Version is a further served version: the types of its group and version in k8s.io/api, and how to convert.
type Version struct {
	Names      Names
	New        func() runtime.Object
	NewList    func() runtime.Object
	ToStorage  func(in runtime.Object) (Object, error)
	FromStored func(in Object) (runtime.Object, error)
	// Validate returns what is wrong with an object sent in this version (already converted), beside the kind's own
	// rules. Old is nil on create; the whole hook may be nil.
	Validate func(obj, old Object) field.ErrorList
	// Fields gives this version's names of selectable fields: to the names in Kind.Fields. Nil: the same names.
	Fields map[string]string
	// Deprecated is a sentence for the Warning header; empty: the version is current.
	Deprecated string
}

// Kind is a declared kind with its types erased.
type Kind struct {
	Names
	Scope
	StorageKey string
	Verbs      []string

	New     func() Object
	NewList func() runtime.Object

	Default                  func(obj Object)
	HasStatus                bool
	StatusOnCreate           bool
	SetStatus                func(dst, src Object)
	HasGeneration            bool
	SpecChanged              func(obj, old Object) bool
	Prepare                  func(ctx context.Context, obj, old Object) // old nil on create
	Validate                 func(obj Object) field.ErrorList           // on create and update
	ValidateCreate           func(obj Object) field.ErrorList           // on create, beside Validate
	ValidateUpdate           func(obj, old Object) field.ErrorList
	ValidateName             func(name string) []string
	ValidateStatusUpdate     func(obj, old Object) field.ErrorList
	Warnings                 func(obj, old Object) []string
	GracePeriod              func(obj Object, wish *int64) int64 // nil: none
	OnDelete                 func(obj Object) bool               // nil: none
	ReturnDeleted            bool
	OrphanByDefault          bool
	AllowCreateOnUpdate      bool
	AllowUnconditionalUpdate bool
	TTL                      func(obj Object) int64 // nil: none
	Fields                   map[string]func(obj Object) string
	Indexed                  []string
	Columns                  []TableColumn
	Subresources             []Subresource
	Versions                 []Version
	Review                   func(ctx context.Context, obj Object, judge Judge) error // nil: no question
	Observe                  func(ctx context.Context, judge Judge) []Object          // nil: no view
	Formerly                 []Version
	Through                  *Through // nil: its objects are its own
	Deprecated               string

	// Form says how objects are read and stored whose Go type does not say which fields there are; nil: the Go type
	// says it, and they are stored as protobuf.
	Form *Form
}

// Form is how objects of a kind without a Go type of its own are read and stored.
type Form struct {
	// Read decodes JSON from a client. Fields that the kind does not know, and those that are there twice, are dropped
	// and returned.
	Read func(json []byte) (obj Object, unknown []error, err error)
	// Marshal and Unmarshal are the stored form.
	Marshal   func(obj Object) ([]byte, error)
	Unmarshal func(ctx context.Context, plain []byte) (Object, error)
	// Stored is the version of the stored form.
	Stored schema.GroupVersionKind
	// Convert turns an object into another version of its kind. The result may share parts with it.
	Convert func(obj Object, version string) (Object, error)
	// Schema describes the fields as a JSON schema of OpenAPI v3 or v2; an object may also have others if Loose.
	Schema func(v2 bool) map[string]any
	Loose  bool
	// Deprecated is a sentence for the Warning header; empty: the version is current.
	Deprecated string
}

// Stored says that the kind's objects lie in etcd.
func (k *Kind) Stored() bool { return k.Review == nil && k.Observe == nil && k.Through == nil }

// StoredGVK is the group, version and kind that the stored bytes say.
func (k *Kind) StoredGVK() schema.GroupVersionKind {
	if k.Form != nil {
		return k.Form.Stored
	}
	return k.GVK()
}

// TableColumn is a Column with its type erased.
type TableColumn struct {
	metav1.TableColumnDefinition
	Value func(obj Object) any
}

// GVK is the group, version and kind in which objects are stored.
func (k *Kind) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Names.Kind}
}

// GVR is the group, version and plural in which objects are stored.
func (k *Kind) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Plural}
}

// GroupResource names the kind in errors and rules.
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.Plural}
}

// Subresource finds a subresource by name, nil when the kind has none such.
func (k *Kind) Subresource(name string) *Subresource {
	for i := range k.Subresources {
		if k.Subresources[i].Name == name {
			return &k.Subresources[i]
		}
	}
	return nil
}

// Pointer is the pointer to an API struct that is an Object.
type Pointer[T any] interface {
	*T
	Object
}

var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// Define erases the type of a Spec. The scheme makes the list type and must know T and its list.
func Define[T any, P Pointer[T]](scheme *runtime.Scheme, s Spec[T]) *Kind {
	k := &Kind{
		Names: s.Names, Scope: s.Scope, StorageKey: s.StorageKey, Verbs: s.Verbs,
		New:                      func() Object { return P(new(T)) },
		HasStatus:                s.SetStatus != nil,
		StatusOnCreate:           s.StatusOnCreate,
		HasGeneration:            s.SpecChanged != nil,
		ValidateName:             s.ValidateName,
		AllowCreateOnUpdate:      s.AllowCreateOnUpdate,
		AllowUnconditionalUpdate: s.AllowUnconditionalUpdate,
		ReturnDeleted:            s.ReturnDeleted,
		OrphanByDefault:          s.OrphanByDefault,
		Indexed:                  s.Indexed,
		Subresources:             s.Subresources,
		Versions:                 s.Versions,
		Formerly:                 s.Formerly,
		Through:                  s.Through,
		Deprecated:               s.Deprecated,
		Default:                  erase1[T, P](s.Default),
		SetStatus:                erase2[T, P](s.SetStatus),
		Validate:                 eraseCheck1[T, P](s.Validate),
		ValidateCreate:           eraseCheck1[T, P](s.ValidateCreate),
		ValidateUpdate:           eraseCheck2[T, P](s.ValidateUpdate),
		ValidateStatusUpdate:     eraseCheck2[T, P](s.ValidateStatusUpdate),
		Fields:                   map[string]func(Object) string{},
	}
	if k.List == "" {
		k.List = k.Names.Kind + "List"
	}
	if k.Singular == "" {
		k.Singular = strings.ToLower(k.Names.Kind)
	}
	if k.StorageKey == "" {
		k.StorageKey = k.Plural
	}
	if k.Verbs == nil {
		k.Verbs = allVerbs
	}
	listGVK := schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.List}
	k.NewList = func() runtime.Object {
		list, err := scheme.New(listGVK)
		if err != nil {
			panic(fmt.Sprintf("the scheme does not know %s: %v", listGVK, err))
		}
		return list
	}
	eraseHooks[T, P](k, s)
	return k
}

// eraseHooks fills the hooks whose absence the Kind shows by nil or a default.
func eraseHooks[T any, P Pointer[T]](k *Kind, s Spec[T]) {
	k.SpecChanged = func(obj, old Object) bool {
		return s.SpecChanged != nil && s.SpecChanged((*T)(obj.(P)), (*T)(old.(P)))
	}
	k.Prepare = func(ctx context.Context, obj, old Object) {
		if s.Prepare != nil {
			s.Prepare(ctx, (*T)(obj.(P)), typedOrNil[T, P](old))
		}
	}
	k.Warnings = func(obj, old Object) []string {
		if s.Warnings == nil {
			return nil
		}
		return s.Warnings((*T)(obj.(P)), typedOrNil[T, P](old))
	}
	if s.GracePeriod != nil {
		k.GracePeriod = func(obj Object, wish *int64) int64 { return s.GracePeriod((*T)(obj.(P)), wish) }
	}
	if s.OnDelete != nil {
		k.OnDelete = func(obj Object) bool { return s.OnDelete((*T)(obj.(P))) }
	}
	if s.Review != nil {
		k.Review = func(ctx context.Context, obj Object, judge Judge) error { return s.Review(ctx, (*T)(obj.(P)), judge) }
	}
	if s.Observe != nil {
		k.Observe = func(ctx context.Context, judge Judge) []Object {
			var out []Object
			for _, obj := range s.Observe(ctx, judge) {
				out = append(out, P(obj))
			}
			return out
		}
	}
	if s.TTL != nil {
		k.TTL = func(obj Object) int64 { return s.TTL((*T)(obj.(P))) }
	}
	for name, get := range s.Fields {
		k.Fields[name] = func(obj Object) string { return get((*T)(obj.(P))) }
	}
	for _, c := range s.Columns {
		def := metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Describe}
		if def.Type == "" {
			def.Type = "string"
		}
		if c.Wide {
			def.Priority = 1
		}
		k.Columns = append(k.Columns, TableColumn{def, func(obj Object) any { return c.Value((*T)(obj.(P))) }})
	}
}

func typedOrNil[T any, P Pointer[T]](obj Object) *T {
	if obj == nil {
		return nil
	}
	return (*T)(obj.(P))
}

func erase1[T any, P Pointer[T]](f func(*T)) func(Object) {
	return func(obj Object) {
		if f != nil {
			f((*T)(obj.(P)))
		}
	}
}

func erase2[T any, P Pointer[T]](f func(a, b *T)) func(a, b Object) {
	return func(a, b Object) {
		if f != nil {
			f((*T)(a.(P)), (*T)(b.(P)))
		}
	}
}

func eraseCheck1[T any, P Pointer[T]](f func(*T) field.ErrorList) func(Object) field.ErrorList {
	return func(obj Object) field.ErrorList {
		if f == nil {
			return nil
		}
		return f((*T)(obj.(P)))
	}
}

func eraseCheck2[T any, P Pointer[T]](f func(a, b *T) field.ErrorList) func(a, b Object) field.ErrorList {
	return func(a, b Object) field.ErrorList {
		if f == nil {
			return nil
		}
		return f((*T)(a.(P)), (*T)(b.(P)))
	}
}
