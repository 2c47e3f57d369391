// Package dynamicresources finds devices for the resource claims of a pod (KEP-4381): PreFilter looks at the claims, Filter
// searches devices for those that have none on each node, Reserve keeps what was found from others, and PreBind writes the
// allocation and the pod's reservation into the claims before the pod is bound. A claim that nobody else uses and whose devices cannot be
// reached from any node gives them back, so that others can be found.
//
// Differs from upstream: extended resources that are backed by device classes are not looked for among devices; a pod
// whose binding failed stays in reservedFor of its claims until it is bound or deleted.
package dynamicresources

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hardway/scheduler/devices"
	"hardway/scheduler/framework"
)

const name = "DynamicResources"

var (
	none        = framework.No(framework.Unresolvable, name, "cannot allocate all claims")
	unreachable = framework.No(framework.Unresolvable, name, "resourceclaim not available on the node")
	badPool     = framework.No(framework.Unresolvable, name, devices.ErrPool.Error())
)

// Plugin is DynamicResources.
type Plugin struct {
	Devices *devices.Inventory
	Writer  Writer
	// Patience is how long devices may take to be ready once a node is chosen; 10 min.
	Patience time.Duration
	Now      func() time.Time
}

// Name implements framework.Plugin.
func (*Plugin) Name() string { return name }

// state is a pod's claims, and what would be allocated on each node.
type state struct {
	claims      []*claim
	missing     []*resourcev1.ResourceClaim // those that have no devices
	plans       map[int][]resourcev1.AllocationResult
	lost        map[*claim]bool // that some node cannot use
	budget      devices.Budget
	failed      *framework.Status // about the claims, whatever the node
	chosen      []resourcev1.AllocationResult
	undecidable bool // it is not known whether the API took what was chosen
}

// claim is one of a pod's.
type claim struct {
	*resourcev1.ResourceClaim
	nodes *nodeaffinity.NodeSelector // from which its devices can be reached; nil: all
	tried bool                       // its devices did not become ready
}

// PreEnqueue implements framework.PreEnqueue: a pod whose claims are not there yet need not be tried.
func (pl *Plugin) PreEnqueue(p *framework.Pod) *framework.Status {
	if len(p.Spec.ResourceClaims) == 0 {
		return nil
	}
	if _, no := pl.claimsOf(p); no != "" {
		return framework.No(framework.Unresolvable, name, no)
	}
	return nil
}

// claimsOf finds the claims of a pod; a sentence says why it has to wait for one.
func (pl *Plugin) claimsOf(p *framework.Pod) (out []*resourcev1.ResourceClaim, no string) {
	for i := range p.Spec.ResourceClaims {
		of := &p.Spec.ResourceClaims[i]
		var claimName string
		switch {
		case of.ResourceClaimName != nil:
			claimName = *of.ResourceClaimName
		case of.ResourceClaimTemplateName != nil:
			generated := generatedFor(p, of.Name)
			if generated == nil {
				return nil, fmt.Sprintf("pod %q: ResourceClaim not created yet", p.Namespace+"/"+p.Name)
			}
			if generated.ResourceClaimName == nil {
				continue // none is needed
			}
			claimName = *generated.ResourceClaimName
		default:
			return nil, fmt.Sprintf("pod %q, spec.resourceClaim %q: unknown source of the claim", p.Namespace+"/"+p.Name, of.Name)
		}
		c := pl.Devices.Claim(p.Namespace, claimName)
		switch {
		case c == nil:
			return nil, fmt.Sprintf("resourceclaim.resource.k8s.io %q not found", claimName)
		case c.DeletionTimestamp != nil:
			return nil, fmt.Sprintf("resourceclaim %q is being deleted", claimName)
		case of.ResourceClaimTemplateName != nil && !ownedBy(c, p):
			return nil, fmt.Sprintf("ResourceClaim %s/%s was not created for pod %s/%s (pod is not owner)", c.Namespace, c.Name, p.Namespace, p.Name)
		}
		out = append(out, c)
	}
	return out, ""
}

func generatedFor(p *framework.Pod, of string) *corev1.PodResourceClaimStatus {
	for i := range p.Status.ResourceClaimStatuses {
		if p.Status.ResourceClaimStatuses[i].Name == of {
			return &p.Status.ResourceClaimStatuses[i]
		}
	}
	return nil
}

func ownedBy(c *resourcev1.ResourceClaim, p *framework.Pod) bool {
	for _, o := range c.OwnerReferences {
		if o.UID == p.UID && o.Controller != nil && *o.Controller {
			return true
		}
	}
	return false
}

// PreFilter implements framework.PreFilter.
func (pl *Plugin) PreFilter(_ *framework.View, p *framework.Pod) framework.Prepared {
	if len(p.Spec.ResourceClaims) == 0 {
		return framework.Prepared{Skip: true}
	}
	no := func(format string, args ...any) framework.Prepared {
		return framework.Prepared{No: framework.No(framework.Unresolvable, name, fmt.Sprintf(format, args...))}
	}
	claims, why := pl.claimsOf(p)
	if why != "" {
		return no("%s", why)
	}
	if len(claims) == 0 {
		return framework.Prepared{Skip: true}
	}
	s := &state{plans: map[int][]resourcev1.AllocationResult{}, lost: map[*claim]bool{}, budget: devices.Budget{Steps: devices.DefaultBudget}}
	for _, of := range claims {
		c := &claim{ResourceClaim: of}
		s.claims = append(s.claims, c)
		switch a := of.Status.Allocation; {
		case a == nil && pl.Devices.Pending(of.UID):
			return no("resource claim %s/%s is in the process of being allocated", of.Namespace, of.Name)
		case a == nil:
			if class := pl.unknownClass(of); class != "" {
				return no("%s", class)
			}
			s.missing = append(s.missing, of)
		case !reservedFor(of, p) && len(of.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize:
			return no("resourceclaim in use")
		default:
			if a.NodeSelector != nil {
				selector, err := nodeaffinity.NewNodeSelector(a.NodeSelector)
				if err != nil {
					return framework.Prepared{No: framework.No(framework.Failed, name, fmt.Sprintf("allocation of claim %s/%s: %v", of.Namespace, of.Name, err))}
				}
				c.nodes = selector
			}
			ready, err := readiness(of)
			c.tried = err != nil || !ready && pl.overdue(of)
		}
	}
	return framework.Prepared{State: s}
}

// unknownClass says which class of a claim's requests is not there; "" when all are.
func (pl *Plugin) unknownClass(c *resourcev1.ResourceClaim) string {
	missing := func(request, class string) string {
		if pl.Devices.Classes[class] != nil {
			return ""
		}
		return fmt.Sprintf("request %s: device class %s does not exist", request, class)
	}
	for i := range c.Spec.Devices.Requests {
		r := &c.Spec.Devices.Requests[i]
		if r.Exactly != nil {
			if no := missing(r.Name, r.Exactly.DeviceClassName); no != "" {
				return no
			}
		}
		for _, s := range r.FirstAvailable {
			if no := missing(r.Name+"/"+s.Name, s.DeviceClassName); no != "" {
				return no
			}
		}
	}
	return ""
}

func reservedFor(c *resourcev1.ResourceClaim, p *framework.Pod) bool {
	for i := range c.Status.ReservedFor {
		if c.Status.ReservedFor[i].UID == p.UID {
			return true
		}
	}
	return false
}

// Filter implements framework.Filter.
func (pl *Plugin) Filter(of any, _ *framework.Pod, n *framework.Node) *framework.Status {
	s := of.(*state)
	if s.failed != nil {
		return s.failed
	}
	reached := true
	for _, c := range s.claims {
		if c.tried || c.nodes != nil && !c.nodes.Match(n.Node) {
			s.lost[c], reached = true, false
		}
	}
	if !reached {
		return unreachable
	}
	if len(s.missing) == 0 {
		return nil
	}
	plan, err := pl.Devices.Allocate(n.Node, s.missing, &s.budget)
	switch {
	case errors.Is(err, devices.ErrPool):
		return badPool
	case err != nil:
		s.failed = framework.No(framework.Failed, name, err.Error())
		return s.failed
	case plan == nil:
		return none
	}
	s.plans[n.Row] = plan
	return nil
}

// Score implements framework.Score: the nodes come first on which requests get what they name first.
func (*Plugin) Score(of any, _ *framework.Pod, n *framework.Node) (score int64) {
	s := of.(*state)
	plan := s.plans[n.Row]
	for _, c := range s.claims {
		a := c.Status.Allocation
		if a == nil {
			a, plan = &plan[0], plan[1:]
		}
		got := map[string]bool{}
		for i := range a.Devices.Results {
			got[a.Devices.Results[i].Request] = true
		}
		for _, r := range c.Spec.Devices.Requests {
			for i, alternative := range r.FirstAvailable {
				if got[r.Name+"/"+alternative.Name] {
					score += int64(resourcev1.FirstAvailableDeviceRequestMaxSize - i)
				}
			}
		}
	}
	return score
}

// Normalize implements framework.Normalize.
func (*Plugin) Normalize(_ any, raw, _, greatest int64) int64 {
	if greatest == 0 {
		return raw
	}
	return framework.MaxScore * raw / greatest
}

// PostFilter implements framework.PostFilter: it takes the devices from a claim that keeps the pod from all nodes.
func (pl *Plugin) PostFilter(_ framework.Situation, of any, p *framework.Pod) (*framework.Eviction, *framework.Status) {
	s, ok := of.(*state)
	if !ok {
		return nil, nil
	}
	for _, c := range s.claims {
		users := c.Status.ReservedFor
		if s.lost[c] && (len(users) == 0 || len(users) == 1 && users[0].UID == p.UID) {
			return &framework.Eviction{Release: c.ResourceClaim}, nil
		}
	}
	return nil, nil
}

// Heeds implements framework.Wakes.
func (*Plugin) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged, framework.DevicesChanged)
}

// Helps implements framework.Wakes.
func (pl *Plugin) Helps(p *framework.Pod, c framework.Change) bool {
	changed, isClaim := c.Object.(*resourcev1.ResourceClaim)
	if !isClaim || c.Freed {
		return true
	}
	claims, why := pl.claimsOf(p)
	if why != "" {
		return false
	}
	for _, own := range claims {
		if own.UID == changed.UID {
			return true
		}
	}
	return false
}
