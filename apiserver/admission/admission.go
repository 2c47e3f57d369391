// Package admission is the chain of plugins that every write passes: first each may change the object, then, when
// defaults and the kind's own rules have been applied, each may refuse it.
//
// A plugin is a folder below plugins/. It implements Mutator, Validator or both, sees Attributes, and answers with a
// Status error: Forbid makes the usual one. Plugins do not know each other; the order of the Chain is theirs.
package admission

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"hardway/apiserver/resource"
)

// Operation is what a request does to an object.
type Operation string

// The operations, in the words of webhooks and policies.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes are what a plugin can know about a write. Who asks is in the context: request.User.
type Attributes struct {
	Operation   Operation
	Kind        *resource.Kind
	Subresource string // "" is the object itself
	Namespace   string // empty for kinds outside namespaces
	Name        string // empty while generateName has not made one

	// Object is the object to be: Mutators may change it, Validators not. Nil on Delete.
	Object resource.Object
	// Old is the object that is there, read only. Nil on Create.
	Old resource.Object
	// Options are the request's CreateOptions, UpdateOptions or DeleteOptions.
	Options runtime.Object
	DryRun  bool
}

// Plugin is one behaviour.
type Plugin interface {
	// Name is upstream's, as in --enable-admission-plugins.
	Name() string
}

// Mutator is a plugin that changes objects.
type Mutator interface {
	Mutate(ctx context.Context, a *Attributes) error
}

// Validator is a plugin that refuses writes.
type Validator interface {
	Validate(ctx context.Context, a *Attributes) error
}

// Chain is the ordered list of plugins.
type Chain []Plugin

// Mutate lets every Mutator change the object, in order, until one refuses.
func (c Chain) Mutate(ctx context.Context, a *Attributes) error {
	for _, p := range c {
		if m, ok := p.(Mutator); ok {
			if err := m.Mutate(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// Validate asks every Validator, in order, until one refuses.
func (c Chain) Validate(ctx context.Context, a *Attributes) error {
	for _, p := range c {
		if v, ok := p.(Validator); ok {
			if err := v.Validate(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// Forbid is the Status with which a plugin refuses: `pods "web" is forbidden: <reason>`.
func Forbid(a *Attributes, reason string, args ...any) *apierrors.StatusError {
	name := a.Name
	if name == "" && a.Object != nil {
		if name = a.Object.GetName(); name == "" {
			name = a.Object.GetGenerateName()
		}
	}
	return apierrors.NewForbidden(a.Kind.GroupResource(), name, fmt.Errorf(reason, args...))
}
