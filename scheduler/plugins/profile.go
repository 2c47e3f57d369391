package plugins

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"hardway/scheduler/framework"
)

// noConstraints stands for "none at all" where nil stands for those of the system.
var noConstraints = []corev1.TopologySpreadConstraint{}

// args are the arguments of one plugin as the file has them.
type args struct {
	plugin string
	raw    []byte
}

// read lays the given arguments onto the defaults in to.
func (a *args) read(to any) error {
	if len(a.raw) == 0 {
		return nil
	}
	if err := yaml.UnmarshalStrict(a.raw, to); err != nil {
		return a.wrong("%w", err)
	}
	var meta struct{ Kind string }
	if err := yaml.Unmarshal(a.raw, &meta); err != nil {
		return a.wrong("%w", err)
	}
	if want := a.plugin + "Args"; meta.Kind != "" && meta.Kind != want {
		return a.wrong("kind: is %s, want %s", meta.Kind, want)
	}
	return nil
}

func (a *args) wrong(format string, values ...any) error {
	return fmt.Errorf("pluginConfig of %s: %w", a.plugin, fmt.Errorf(format, values...))
}

// New makes a profile as it is described, with upstream's defaults for what is not.
func New(of *schedulerv1.KubeSchedulerProfile, needs *Needs) (*framework.Profile, error) {
	b := &builder{needs: needs, sets: of.Plugins, args: map[string]*args{}, made: map[string]framework.Plugin{}}
	if b.sets == nil {
		b.sets = &schedulerv1.Plugins{}
	}
	for _, c := range of.PluginConfig {
		if b.args[c.Name] != nil {
			return nil, fmt.Errorf("pluginConfig: %s is there twice", c.Name)
		}
		if !known(c.Name) {
			return nil, fmt.Errorf("pluginConfig: there is no plugin %s", c.Name)
		}
		b.args[c.Name] = &args{plugin: c.Name, raw: c.Args.Raw}
	}
	p := &framework.Profile{Scheduler: corev1.DefaultSchedulerName, Wakes: map[string]framework.Wakes{}}
	if of.SchedulerName != nil {
		p.Scheduler = *of.SchedulerName
	}
	b.fill(p)
	return p, errors.Join(b.wrong...)
}

func known(name string) bool {
	return slices.ContainsFunc(all, func(e entry) bool { return e.name == name })
}

// builder puts one profile together.
type builder struct {
	needs *Needs
	sets  *schedulerv1.Plugins
	args  map[string]*args
	made  map[string]framework.Plugin
	wrong []error
}

func (b *builder) fill(p *framework.Profile) {
	s := b.sets
	for _, sort := range pick[framework.Sort](b, "queueSort", s.QueueSort) {
		if p.Sort != nil {
			b.fail("queueSort: more than one plugin is enabled")
		}
		p.Sort = sort.plugin
	}
	p.PreEnqueue = plugins(pick[framework.PreEnqueue](b, "preEnqueue", s.PreEnqueue))
	p.PreFilter = plugins(pick[framework.PreFilter](b, "preFilter", s.PreFilter))
	p.Filter = plugins(pick[framework.Filter](b, "filter", s.Filter))
	p.PostFilter = plugins(pick[framework.PostFilter](b, "postFilter", s.PostFilter))
	pick[framework.PreScore](b, "preScore", s.PreScore) // called where the plugin scores
	for _, c := range pick[framework.Score](b, "score", s.Score) {
		p.Score = append(p.Score, framework.Weighted{Score: c.plugin, Weight: c.weight})
	}
	p.Reserve = plugins(pick[framework.Reserve](b, "reserve", s.Reserve))
	p.Permit = plugins(pick[framework.Permit](b, "permit", s.Permit))
	p.PreBind = plugins(pick[framework.PreBind](b, "preBind", s.PreBind))
	for _, c := range pick[framework.Bind](b, "bind", s.Bind) {
		if p.Bind == nil {
			p.Bind = c.plugin
		}
	}
	p.PostBind = plugins(pick[framework.PostBind](b, "postBind", s.PostBind))
	if p.Sort == nil || p.Bind == nil {
		b.fail("a profile needs a plugin for queueSort and one for bind")
	}
	for _, plugin := range b.made {
		if w, ok := plugin.(framework.Wakes); ok {
			p.Wakes[plugin.Name()] = w
		}
	}
}

func (b *builder) fail(format string, values ...any) {
	b.wrong = append(b.wrong, fmt.Errorf("plugins."+format, values...))
}

// chosen is a plugin at one point.
type chosen[T any] struct {
	plugin T
	weight int64
}

func plugins[T any](list []chosen[T]) (out []T) {
	for _, c := range list {
		out = append(out, c.plugin)
	}
	return out
}

// pick chooses the plugins of one extension point: those enabled for all points that have something to do there, less
// those disabled, and then those enabled for this point alone.
func pick[T any](b *builder, point string, set schedulerv1.PluginSet) (out []chosen[T]) {
	own := map[string]schedulerv1.Plugin{}
	for _, e := range set.Enabled {
		if _, twice := own[e.Name]; twice {
			b.fail("%s: %s is enabled twice", point, e.Name)
		}
		own[e.Name] = e
	}
	taken := map[string]bool{}
	add := func(e schedulerv1.Plugin, must bool) {
		plugin := b.plugin(e.Name)
		if plugin == nil || taken[e.Name] {
			return
		}
		t, ok := plugin.(T)
		if !ok {
			if must {
				b.fail("%s: plugin %s has nothing to do there", point, e.Name)
			}
			return
		}
		taken[e.Name] = true
		out = append(out, chosen[T]{t, weight(e)})
	}
	for _, e := range b.everywhere() {
		if mine, ok := own[e.Name]; ok {
			if mine.Weight == nil {
				mine.Weight = e.Weight
			}
			add(mine, true)
		} else if !disabled(set, e.Name) {
			add(e, false)
		}
	}
	for _, e := range set.Enabled {
		add(e, true)
	}
	return out
}

func disabled(set schedulerv1.PluginSet, name string) bool {
	return slices.ContainsFunc(set.Disabled, func(d schedulerv1.Plugin) bool { return d.Name == "*" || d.Name == name })
}

func weight(e schedulerv1.Plugin) int64 {
	if e.Weight == nil || *e.Weight == 0 {
		return 1
	}
	return int64(*e.Weight)
}

// everywhere are the plugins for all points: the defaults less those disabled, with those enabled in their place or at
// the end.
func (b *builder) everywhere() (out []schedulerv1.Plugin) {
	set := b.sets.MultiPoint
	placed := map[string]bool{}
	for _, e := range all {
		i := slices.IndexFunc(set.Enabled, func(p schedulerv1.Plugin) bool { return p.Name == e.name })
		switch {
		case disabled(set, e.name):
		case i >= 0:
			out = append(out, set.Enabled[i])
			placed[e.name] = true
		default:
			w := int32(e.weight)
			out = append(out, schedulerv1.Plugin{Name: e.name, Weight: &w})
		}
	}
	for _, e := range set.Enabled {
		if !placed[e.Name] {
			placed[e.Name] = true
			out = append(out, e)
		}
	}
	return out
}

// plugin makes a plugin at its first use, so that all points share one.
func (b *builder) plugin(name string) framework.Plugin {
	if p, ok := b.made[name]; ok {
		return p
	}
	b.made[name] = nil
	i := slices.IndexFunc(all, func(e entry) bool { return e.name == name })
	if i < 0 {
		b.fail("%s: there is no such plugin; there are %s", name, strings.Join(Names(), ", "))
		return nil
	}
	given := b.args[name]
	if given == nil {
		given = &args{plugin: name}
	}
	p, err := all[i].make(b.needs, given)
	if err != nil {
		b.wrong = append(b.wrong, err)
		return nil
	}
	b.made[name] = p
	return p
}

// Names are those of all plugins, in order.
func Names() (names []string) {
	for _, e := range all {
		names = append(names, e.name)
	}
	return names
}
