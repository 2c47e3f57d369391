package server

import (
	"context"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/fairness"
)

// makeGate makes what lets requests in by priority and fairness; nil when that is off, or when there is no bound.
func (s *server) makeGate() (*fairness.Gate, *fairness.Metrics) {
	seats := s.cfg.MaxReads + s.cfg.MaxWrites
	if !s.cfg.Fairness || s.cfg.MaxReads == 0 || s.cfg.MaxWrites == 0 {
		return nil, nil
	}
	gate := fairness.NewGate(fairness.First(seats))
	s.fair = &fairness.Follower{
		Gate: gate, Seats: seats, Log: s.log,
		Schemas: s.set.For(schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: "flowschemas"}),
		Levels:  s.set.For(schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: "prioritylevelconfigurations"}),
	}
	return gate, fairness.NewMetrics(s.reg, gate)
}

// shareOut follows the configuration once the caches are there.
func (s *server) shareOut(ctx context.Context) error {
	if s.set.WaitForSync(ctx) != nil {
		return nil //nolint:nilerr // told to stop before there was anything to follow
	}
	return s.fair.Run(ctx)
}
