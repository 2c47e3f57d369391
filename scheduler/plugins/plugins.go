// Package plugins is the ordered list of what decides where a pod goes.
package plugins

import (
	"hardway/scheduler/framework"
	"hardway/scheduler/plugins/defaultbinder"
	"hardway/scheduler/plugins/nodeaffinity"
	"hardway/scheduler/plugins/nodename"
	"hardway/scheduler/plugins/nodeports"
	"hardway/scheduler/plugins/noderesources"
	"hardway/scheduler/plugins/nodeunschedulable"
	"hardway/scheduler/plugins/prioritysort"
	"hardway/scheduler/plugins/schedulinggates"
	"hardway/scheduler/plugins/tainttoleration"
	"hardway/scheduler/plugins/unsupported"
	"hardway/shared/client"
)

// Default makes the profile of a scheduler name: upstream's plugins, order and weights, as far as they exist here.
func Default(scheduler string, columns *framework.Columns, api *client.API) *framework.Profile {
	fit := noderesources.NewFit(columns)
	p := &framework.Profile{
		Scheduler:  scheduler,
		Sort:       prioritysort.Plugin{},
		PreEnqueue: []framework.PreEnqueue{schedulinggates.Plugin{}},
		PreFilter:  []framework.PreFilter{unsupported.Plugin{}, nodeaffinity.Plugin{}},
		Filter: []framework.Filter{ // the cheap ones first
			nodeunschedulable.Plugin{}, nodename.Plugin{}, tainttoleration.Plugin{}, nodeaffinity.Plugin{}, nodeports.Plugin{}, fit,
		},
		Score: []framework.Weighted{
			{Score: tainttoleration.Plugin{}, Weight: 3},
			{Score: nodeaffinity.Plugin{}, Weight: 2},
			{Score: fit, Weight: 1},
			{Score: noderesources.BalancedAllocation{}, Weight: 1},
		},
		Bind:  defaultbinder.Plugin{API: api},
		Wakes: map[string]framework.Wakes{},
	}
	for _, f := range p.Filter {
		if w, ok := f.(framework.Wakes); ok {
			p.Wakes[f.Name()] = w
		}
	}
	return p
}
