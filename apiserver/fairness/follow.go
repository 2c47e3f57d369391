package fairness

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/kinds/flowcontrol"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
)

// Follower keeps a gate to what the configuration objects say, and tells schemas whose level is missing.
type Follower struct {
	Gate            *Gate
	Seats           int
	Schemas, Levels *registry.Registry
	Log             *zap.Logger
}

// First is the plan before the objects are known.
func First(seats int) *Plan {
	levels, schemas := flowcontrol.First()
	return NewPlan(seats, levels, nil, schemas, nil)
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	done := make(chan struct{}, 2)
	for _, r := range []*registry.Registry{f.Schemas, f.Levels} {
		go func() {
			defer func() { done <- struct{}{} }()
			watch(ctx, r, changed)
		}()
	}
	defer func() { <-done; <-done }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if err := f.sync(ctx); err != nil && ctx.Err() == nil {
			f.Log.Warn("priority and fairness: the limits are those of before", zap.Error(err))
		}
	}
}

// watch reports that objects of a kind change, or may have.
func watch(ctx context.Context, r *registry.Registry, changed chan<- struct{}) {
	for ctx.Err() == nil {
		w, err := r.Watch(ctx, registry.Query{})
		for err == nil {
			select {
			case changed <- struct{}{}:
			default:
			}
			_, err = w.Next(ctx)
		}
		if w != nil {
			w.Stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (f *Follower) sync(ctx context.Context) error {
	levels, err := list[*flowcontrolv1.PriorityLevelConfiguration](ctx, f.Levels)
	if err != nil {
		return err
	}
	schemas, err := list[*flowcontrolv1.FlowSchema](ctx, f.Schemas)
	if err != nil {
		return err
	}
	if len(levels) == 0 {
		return nil // of a new cluster, whose first objects are being made
	}
	mandatoryLevels, mandatorySchemas := flowcontrol.Mandatory()
	f.Gate.Set(NewPlan(f.Seats, levels, mandatoryLevels, schemas, mandatorySchemas))
	for _, s := range schemas {
		missing := !slices.ContainsFunc(levels, func(l *flowcontrolv1.PriorityLevelConfiguration) bool {
			return l.Name == s.Spec.PriorityLevelConfiguration.Name
		})
		if err := f.tell(ctx, s, missing); err != nil {
			return err
		}
	}
	return nil
}

func list[T resource.Object](ctx context.Context, r *registry.Registry) ([]T, error) {
	found, err := r.List(ctx, registry.Query{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	var out []T
	for _, it := range found.Items {
		if obj, ok := it.Object.(T); ok {
			out = append(out, obj)
		}
	}
	return out, nil
}

// tell says in a schema's status whether its level is missing.
func (f *Follower) tell(ctx context.Context, s *flowcontrolv1.FlowSchema, missing bool) error {
	level := s.Spec.PriorityLevelConfiguration.Name
	c := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionFalse, Reason: "Found",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", level),
	}
	if missing {
		c.Status, c.Reason = flowcontrolv1.ConditionTrue, "NotFound"
		c.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", level)
	}
	is := func(o flowcontrolv1.FlowSchemaCondition) bool { return o.Type == c.Type }
	if i := slices.IndexFunc(s.Status.Conditions, is); i >= 0 && s.Status.Conditions[i].Status == c.Status && s.Status.Conditions[i].Message == c.Message {
		return nil
	}
	c.LastTransitionTime = metav1.Now()
	_, _, _, err := f.Schemas.Update(ctx, "", s.Name, "status", func(current resource.Object) (resource.Object, error) {
		now := current.(*flowcontrolv1.FlowSchema)
		now.Status.Conditions = append(slices.DeleteFunc(now.Status.Conditions, is), c)
		return now, nil
	}, nil, false)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // its next change comes here again
	}
	return err
}
