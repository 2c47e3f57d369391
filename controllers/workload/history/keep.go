package history

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/owner"
	"hardway/shared/client"
)

// Keeper reads and writes revisions.
type Keeper struct {
	API       *client.API
	Revisions control.Revisions
}

// Collision is returned when the name of a new revision is taken by another one: the subject's count has to grow.
type Collision struct{ Name string }

func (c *Collision) Error() string {
	return fmt.Sprintf("another revision is called %s: the collision count grows", c.Name)
}

// Owned returns the subject's revisions, and adopts orphans that match.
func (k Keeper) Owned(ctx context.Context, s Subject, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*appsv1.ControllerRevision, error) {
	candidates := append(k.Revisions.OwnedBy(s.Meta.GetUID()), k.Revisions.Orphans(s.Meta.GetNamespace())...)
	return owner.Claim(ctx, owner.Claimer{
		Owner: s.Meta, Ref: *metav1.NewControllerRef(s.Meta, s.Kind), Fresh: fresh,
		Patch: func(ctx context.Context, name string, patch []byte) error {
			_, err := client.ControllerRevisions.Patch(ctx, k.API, s.Meta.GetNamespace(), name, types.StrategicMergePatchType, patch)
			return err
		},
	}, selector, candidates)
}

// Sync makes the plan for the subject and carries it out. Afterwards Current is stored.
func (k Keeper) Sync(ctx context.Context, s Subject, revisions []*appsv1.ControllerRevision) (Plan, error) {
	p, err := Make(s, revisions)
	if err != nil {
		return p, err
	}
	switch {
	case p.Create:
		p.Current, err = k.create(ctx, s, p.Current)
	case p.Renumber != nil:
		p.Current, err = k.renumber(ctx, p.Renumber)
	}
	return p, err
}

// create stores a revision. One of that name that says the same is the one: the cache has not shown it yet.
func (k Keeper) create(ctx context.Context, s Subject, r *appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	made, err := client.ControllerRevisions.Create(ctx, k.API, r)
	if !apierrors.IsAlreadyExists(err) {
		if err != nil {
			return nil, fmt.Errorf("create revision %s/%s: %w", r.Namespace, r.Name, err)
		}
		return made, nil
	}
	there, err := client.ControllerRevisions.Get(ctx, k.API, r.Namespace, r.Name)
	if err != nil {
		return nil, fmt.Errorf("read revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	if owner.ControllerUID(there) != s.Meta.GetUID() || !Equal(there, r) {
		return nil, &Collision{r.Name}
	}
	return there, nil
}

func (k Keeper) renumber(ctx context.Context, r *appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": r.ResourceVersion, "uid": r.UID}, "revision": r.Revision})
	if err != nil {
		return nil, fmt.Errorf("encode number of revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	made, err := client.ControllerRevisions.Patch(ctx, k.API, r.Namespace, r.Name, types.MergePatchType, patch)
	if err != nil {
		return nil, fmt.Errorf("renumber revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	return made, nil
}

// Remove deletes revisions.
func (k Keeper) Remove(ctx context.Context, revisions []*appsv1.ControllerRevision) error {
	for _, r := range revisions {
		err := client.ControllerRevisions.Delete(ctx, k.API, r.Namespace, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
		if control.Gone(err) != nil {
			return fmt.Errorf("delete revision %s/%s: %w", r.Namespace, r.Name, err)
		}
	}
	return nil
}
