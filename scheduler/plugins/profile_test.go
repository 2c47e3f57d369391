package plugins_test

import (
	"strings"
	"testing"

	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"hardway/scheduler/framework"
	"hardway/scheduler/plugins"
)

func build(t *testing.T, text string) (*framework.Profile, error) {
	t.Helper()
	var p schedulerv1.KubeSchedulerProfile
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return plugins.New(&p, &plugins.Needs{Columns: framework.NewColumns()})
}

// weights tells the Score plugins of a profile, in order, with what each weighs.
func weights(p *framework.Profile) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Score {
		out[s.Name()] = s.Weight
	}
	return out
}

func TestDefaults(t *testing.T) {
	p, err := build(t, "{}")
	if err != nil {
		t.Fatal(err)
	}
	if p.Scheduler != "default-scheduler" || len(p.Filter) != 14 || len(p.PostFilter) != 2 {
		t.Errorf("%s with %d filters and %d post filters", p.Scheduler, len(p.Filter), len(p.PostFilter))
	}
	got := weights(p)
	for name, want := range map[string]int64{"TaintToleration": 3, "NodeAffinity": 2, "PodTopologySpread": 2, "InterPodAffinity": 2, "NodeResourcesFit": 1, "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1} {
		if got[name] != want {
			t.Errorf("%s weighs %d, want %d", name, got[name], want)
		}
	}
}

func TestProfiles(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		check func(p *framework.Profile) bool
		wrong string // part of the error
	}{
		"a plugin is off everywhere": {
			text:  "plugins: {multiPoint: {disabled: [{name: ImageLocality}]}}",
			check: func(p *framework.Profile) bool { return weights(p)["ImageLocality"] == 0 },
		},
		"only one plugin ranks": {
			text:  "plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit, weight: 9}]}}",
			check: func(p *framework.Profile) bool { return len(p.Score) == 1 && weights(p)["NodeResourcesFit"] == 9 },
		},
		"another weight": {
			text:  "plugins: {multiPoint: {enabled: [{name: InterPodAffinity, weight: 50}]}}",
			check: func(p *framework.Profile) bool { return weights(p)["InterPodAffinity"] == 50 },
		},
		"arguments": {
			text: "pluginConfig: [{name: NodeResourcesFit, args: {kind: NodeResourcesFitArgs, scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}}]",
			check: func(p *framework.Profile) bool {
				for _, s := range p.Score {
					if s.Name() == "NodeResourcesFit" {
						pre := s.Score.(framework.PreScore)
						state, _ := pre.PreScore(framework.NewView(), &framework.Pod{Asks: framework.Vector{500}})
						return s.Score.Score(state, nil, &framework.Node{Allocatable: framework.Vector{1000}}) == 50
					}
				}
				return false
			},
		},
		"no preemption": {text: "plugins: {postFilter: {disabled: [{name: DefaultPreemption}]}}", check: func(p *framework.Profile) bool {
			return len(p.PostFilter) == 1 && p.PostFilter[0].Name() == "DynamicResources"
		}},
		"no such plugin":            {text: "plugins: {filter: {enabled: [{name: Coscheduling}]}}", wrong: "plugins.Coscheduling: there is no such plugin"},
		"a plugin at a wrong point": {text: "plugins: {filter: {enabled: [{name: ImageLocality}]}}", wrong: "plugins.filter: plugin ImageLocality has nothing to do there"},
		"arguments of no plugin":    {text: "pluginConfig: [{name: X, args: {}}]", wrong: "there is no plugin X"},
		"an unknown argument":       {text: "pluginConfig: [{name: InterPodAffinity, args: {weight: 1}}]", wrong: "unknown field"},
		"a weight out of range":     {text: "pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]", wrong: "is not in 0..100"},
		"nothing sorts":             {text: "plugins: {multiPoint: {disabled: [{name: PrioritySort}]}}", wrong: "needs a plugin for queueSort"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := build(t, test.text)
			switch {
			case test.wrong != "":
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("error %v, want one with %q", err, test.wrong)
				}
			case err != nil:
				t.Error(err)
			case !test.check(p):
				t.Errorf("the profile is not as described: %v", weights(p))
			}
		})
	}
}
