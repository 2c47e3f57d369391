package csi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/plugin"
	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/csi"
	"hardway/nodeagent/volume/csi/csitest"
)

// api is what is elsewhere, in memory.
type api struct {
	mu       sync.Mutex // guards all below
	about    *storagev1.CSIDriver
	attached map[string]bool
	inUse    func() []corev1.UniqueVolumeName
	secret   map[string][]byte
	claim    string // last patch
	notes    []string
	node     *corev1.Node
	csiNode  *storagev1.CSINode
	volumes  map[string]*corev1.PersistentVolume
	claims   map[string]*corev1.PersistentVolumeClaim
}

func missing(what, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: what}, name)
}

func (a *api) Driver(_ context.Context, name string) (*storagev1.CSIDriver, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.about == nil {
		return nil, missing("csidrivers", name)
	}
	return a.about, nil
}

func (a *api) Attachment(_ context.Context, name string) (*storagev1.VolumeAttachment, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.attached[name] {
		return nil, missing("volumeattachments", name)
	}
	return &storagev1.VolumeAttachment{Status: storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"device": "sdx"}}}, nil
}

func (a *api) Secret(context.Context, string, string) (*corev1.Secret, error) {
	return &corev1.Secret{Data: a.secret}, nil
}

func (a *api) Token(_ context.Context, _ *corev1.Pod, audience string, _ *int64) (string, time.Time, error) {
	return "token-for-" + audience, time.Unix(1000, 0).UTC(), nil
}

func (a *api) PatchClaimStatus(_ context.Context, _, _ string, merge []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claim = string(merge)
	return nil
}

func (a *api) InUse(name corev1.UniqueVolumeName) bool { return slices.Contains(a.inUse(), name) }
func (a *api) UseChanged()                             {}
func (a *api) Note(_ *corev1.Pod, _, reason, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes = append(a.notes, reason+": "+fmt.Sprintf(format, args...))
}

func (a *api) Node(context.Context) (*corev1.Node, error) { return a.node, nil }
func (a *api) PatchNode(_ context.Context, merge []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes = append(a.notes, "node: "+string(merge))
	return nil
}

func (a *api) CSINode(context.Context) (*storagev1.CSINode, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.csiNode == nil {
		return nil, missing("csinodes", "n")
	}
	return a.csiNode.DeepCopy(), nil
}

func (a *api) CreateCSINode(_ context.Context, n *storagev1.CSINode) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.csiNode = n
	return nil
}

func (a *api) UpdateCSINode(ctx context.Context, n *storagev1.CSINode) error {
	return a.CreateCSINode(ctx, n)
}

func (a *api) Claim(_ context.Context, _, name string) (*corev1.PersistentVolumeClaim, error) {
	return a.claims[name], nil
}

func (a *api) Volume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	return a.volumes[name], nil
}
func (a *api) NodeLabels() map[string]string { return nil }

// bench is a node with a driver.
type bench struct {
	t      *testing.T
	api    *api
	driver *csitest.Driver
	root   string
	boot   string
	kind   *csi.Type
	set    *volume.Set
	came   chan struct{}
	stop   func()
}

const driverName = "test.csi.hardway"

var all = []spec.NodeServiceCapability_RPC_Type{
	spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, spec.NodeServiceCapability_RPC_EXPAND_VOLUME, spec.NodeServiceCapability_RPC_GET_VOLUME_STATS,
}

func setUp(t *testing.T, can ...spec.NodeServiceCapability_RPC_Type) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "csi") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, root: dir + "/k", boot: "boot-1", api: &api{
		attached: map[string]bool{}, node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "nu"}},
		volumes: map[string]*corev1.PersistentVolume{}, claims: map[string]*corev1.PersistentVolumeClaim{},
	}}
	b.driver = &csitest.Driver{Name: driverName, Node: "id-1", Root: b.root, Base: dir + "/base", Topology: map[string]string{"topology.test/node": "n"}, Most: 7, Can: can}
	b.agent()
	t.Cleanup(func() {
		b.stop()
		b.driver.Stop()
		volume.Unmount(dir) //nolint:errcheck // RemoveAll tells
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

// agent starts what the node agent has for CSI, as after it was killed.
func (b *bench) agent() {
	b.t.Helper()
	if b.stop != nil {
		b.stop()
	}
	b.came = make(chan struct{}, 10)
	came := b.came
	drivers := &csi.Drivers{Node: &csi.Node{API: b.api, Log: zap.NewNop()}, Changed: func() { came <- struct{}{} }}
	b.kind = csi.New(csi.Options{Root: b.root, Node: "n", Boot: b.boot, Drivers: drivers, API: b.api, Log: zap.NewNop()})
	b.api.inUse = b.kind.InUse
	b.set = volume.NewSet(b.root, b.api, b.kind)
	r := &plugin.Registry{Dir: b.root + "/plugins_registry", Handlers: map[string]plugin.Handler{"CSIPlugin": drivers}, Log: zap.NewNop()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
	b.stop = func() { cancel(); <-done }
}

// start starts the driver and waits until it is registered.
func (b *bench) start() {
	b.t.Helper()
	if err := b.driver.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.registered()
}

func (b *bench) registered() {
	b.t.Helper()
	select {
	case <-b.came:
	case <-time.After(time.Minute):
		b.t.Fatal("the driver is not registered")
	}
}

// volume makes a claim that is bound to a volume of the driver.
func (b *bench) volume(name string, edit func(*corev1.PersistentVolume)) {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef: &corev1.ObjectReference{UID: types.UID(name)}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Capacity: corev1.ResourceList{"storage": resource.MustParse("1Gi")},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			Driver: driverName, VolumeHandle: "vol-" + name, FSType: "ext4", VolumeAttributes: map[string]string{"kind": "fast"},
		}},
	}}
	if edit != nil {
		edit(pv)
	}
	b.api.volumes[pv.Name] = pv
	b.api.claims[name] = &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: pv.Name, VolumeMode: pv.Spec.VolumeMode},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
	}
}

func pod(uid, claim string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p-" + uid, UID: types.UID(uid)}, Spec: corev1.PodSpec{
		ServiceAccountName: "sa",
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}}},
	}}
}

func inline(uid string) *corev1.Pod {
	p := pod(uid, "")
	p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: driverName, VolumeAttributes: map[string]string{"size": "1"}}}
	return p
}

// noAttach is a driver whose volumes are not attached.
func noAttach(edit func(*storagev1.CSIDriverSpec)) *storagev1.CSIDriver {
	d := &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{AttachRequired: new(false), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{"Persistent", "Ephemeral"}}}
	if edit != nil {
		edit(&d.Spec)
	}
	return d
}

// up sets the volumes of a pod up and returns the path of the one it has.
func (b *bench) up(p *corev1.Pod) string {
	b.t.Helper()
	paths, err := b.set.SetUp(b.t.Context(), p)
	if err != nil {
		b.t.Fatal(err)
	}
	return paths["v"]
}

func (b *bench) down(uid types.UID) {
	b.t.Helper()
	if err := b.set.TearDown(b.t.Context(), uid); err != nil {
		b.t.Fatal(err)
	}
}

// calls compares what the driver has been asked with what it should have been.
func (b *bench) calls(want ...string) {
	b.t.Helper()
	var got []string
	for _, c := range b.driver.Calls() {
		got = append(got, c.String())
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// last is the newest request of a type.
func last[T any](b *bench) T {
	b.t.Helper()
	for _, c := range slices.Backward(b.driver.Calls()) {
		if r, ok := c.Request.(T); ok {
			return r
		}
	}
	b.t.Fatalf("no call with %T", *new(T))
	return *new(T)
}

// clean says that nothing of volumes is left on the node.
func (b *bench) clean() {
	b.t.Helper()
	if mounts, err := volume.MountsBelow(b.root); err != nil || len(mounts) > 0 {
		b.t.Errorf("mounts are left: %v %v", mounts, err)
	}
	for _, pattern := range []string{"pods/*/volumes/*/*", "plugins/kubernetes.io/csi/*/*"} {
		if left, err := filepath.Glob(filepath.Join(b.root, pattern)); err != nil || len(left) > 0 {
			b.t.Errorf("left: %v %v", left, err)
		}
	}
	if u := b.kind.InUse(); len(u) > 0 {
		b.t.Errorf("in use: %v", u)
	}
}

func TestRegistration(t *testing.T) {
	b := setUp(t, all...)
	b.start()
	if len(b.api.csiNode.Spec.Drivers) != 1 {
		t.Fatalf("CSINode %+v", b.api.csiNode)
	}
	d := b.api.csiNode.Spec.Drivers[0]
	if d.NodeID != "id-1" || *d.Allocatable.Count != 7 || !slices.Equal(d.TopologyKeys, []string{"topology.test/node"}) {
		t.Errorf("driver %+v", d)
	}
	if o := b.api.csiNode.OwnerReferences; len(o) != 1 || o[0].UID != "nu" {
		t.Errorf("owners %+v", o)
	}
	want := `node: {"metadata":{"annotations":{"csi.volume.kubernetes.io/nodeid":"{\"test.csi.hardway\":\"id-1\"}"},"labels":{"topology.test/node":"n"}}}`
	if !slices.Contains(b.api.notes, want) {
		t.Errorf("patches %q", b.api.notes)
	}
	b.driver.Stop()
	b.eventually("the driver is out of the CSINode", func() bool {
		b.api.mu.Lock()
		defer b.api.mu.Unlock()
		return len(b.api.csiNode.Spec.Drivers) == 0
	})
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for until := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(until) {
			b.t.Fatal("not: " + what)
		}
		select {
		case <-b.t.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestTwoPodsShareAVolume(t *testing.T) {
	b := setUp(t, all...)
	b.volume("a", nil)
	if _, err := b.set.SetUp(t.Context(), pod("1", "a")); err == nil || !strings.Contains(err.Error(), "driver name test.csi.hardway not found in the list of registered CSI drivers") {
		t.Errorf("without a driver: %v", err)
	}
	b.start()
	b.api.about = noAttach(nil)
	path := b.up(pod("1", "a"))
	if err := os.WriteFile(filepath.Join(path, "f"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(b.up(pod("2", "a")), "f")); err != nil || string(data) != "data" {
		t.Errorf("the second pod reads %q %v", data, err)
	}
	b.up(pod("1", "a"))
	b.calls("NodeStageVolume vol-a", "NodePublishVolume vol-a", "NodePublishVolume vol-a")
	r := last[*spec.NodePublishVolumeRequest](b)
	if r.VolumeContext["kind"] != "fast" || r.VolumeCapability.GetMount().FsType != "ext4" || r.StagingTargetPath == "" {
		t.Errorf("request %+v", r)
	}
	b.down("1")
	b.down("2")
	b.calls("NodeStageVolume vol-a", "NodePublishVolume vol-a", "NodePublishVolume vol-a", "NodeUnpublishVolume vol-a", "NodeUnpublishVolume vol-a", "NodeUnstageVolume vol-a")
	b.clean()
	if data, err := os.ReadFile(b.driver.Folder("vol-a") + "/f"); err != nil || string(data) != "data" {
		t.Errorf("the volume has lost its data: %q %v", data, err)
	}
}

// TestKilled ends the agent between any two steps; the next one goes on, or clears away.
func TestKilled(t *testing.T) {
	for _, at := range []string{"NodeStageVolume", "NodePublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"} {
		for _, wanted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s wanted=%v", at, wanted), func(t *testing.T) {
				b := setUp(t, all...)
				b.volume("a", nil)
				b.api.about = noAttach(nil)
				b.start()
				b.driver.Fail(at, status.Error(codes.Internal, "the agent dies here"))
				_, err := b.set.SetUp(t.Context(), pod("1", "a"))
				if err == nil {
					err = b.set.TearDown(t.Context(), "1")
				}
				if err == nil || !strings.Contains(err.Error(), "dies here") {
					t.Fatalf("got %v", err)
				}
				b.driver.Fail(at, nil)
				b.agent()
				b.registered()
				if wanted {
					path := b.up(pod("1", "a"))
					if err := os.WriteFile(filepath.Join(path, "f"), nil, 0o600); err != nil {
						t.Error(err)
					}
					if _, err := os.Stat(b.driver.Folder("vol-a") + "/f"); err != nil {
						t.Errorf("the pod does not write to the volume: %v", err)
					}
				}
				b.down("1")
				b.clean()
			})
		}
	}
}

// TestRestart leaves a published volume alone, even without its driver; after the machine's restart it is published anew.
func TestRestart(t *testing.T) {
	b := setUp(t, all...)
	b.volume("a", nil)
	b.api.about = noAttach(nil)
	b.start()
	b.up(pod("1", "a"))
	b.driver.Stop()
	b.agent()
	b.up(pod("1", "a"))
	b.calls("NodeStageVolume vol-a", "NodePublishVolume vol-a")
	b.boot = "boot-2"
	b.agent()
	b.start()
	b.up(pod("1", "a"))
	b.calls("NodeStageVolume vol-a", "NodePublishVolume vol-a", "NodeStageVolume vol-a", "NodePublishVolume vol-a")
	b.down("1")
	b.clean()
}

func TestAttached(t *testing.T) {
	b := setUp(t, all...)
	b.volume("a", nil)
	b.start()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	if _, err := b.set.SetUp(ctx, pod("1", "a")); err == nil || !strings.Contains(err.Error(), "there is no VolumeAttachment csi-") {
		t.Errorf("got %v", err)
	}
	if got := b.kind.InUse(); !slices.Equal(got, []corev1.UniqueVolumeName{"kubernetes.io/csi/test.csi.hardway^vol-a"}) {
		t.Errorf("in use %v", got)
	}
	b.calls()
	b.api.mu.Lock()
	b.api.attached[csi.AttachmentName("vol-a", driverName, "n")] = true
	b.api.mu.Unlock()
	b.up(pod("1", "a"))
	if r := last[*spec.NodeStageVolumeRequest](b); r.PublishContext["device"] != "sdx" {
		t.Errorf("request %+v", r)
	}
	b.down("1")
	b.clean()
}

func TestInline(t *testing.T) {
	b := setUp(t, all...)
	b.start()
	b.api.secret = map[string][]byte{"pw": []byte("x")}
	p := inline("1")
	p.Spec.Volumes[0].CSI.NodePublishSecretRef = &corev1.LocalObjectReference{Name: "s"}
	if _, err := b.set.SetUp(t.Context(), p); err == nil || !strings.Contains(err.Error(), `volume mode "Ephemeral" not supported by driver`) {
		t.Errorf("without CSIDriver: %v", err)
	}
	b.api.about = noAttach(func(s *storagev1.CSIDriverSpec) { s.VolumeLifecycleModes = s.VolumeLifecycleModes[:1] })
	if _, err := b.set.SetUp(t.Context(), p); err == nil || !strings.Contains(err.Error(), `only supports ["Persistent"]`) {
		t.Errorf("for claims only: %v", err)
	}
	b.api.about = noAttach(func(s *storagev1.CSIDriverSpec) {
		s.PodInfoOnMount, s.RequiresRepublish = new(true), new(true)
		s.TokenRequests = []storagev1.TokenRequest{{Audience: "vault"}}
	})
	b.up(p)
	r := last[*spec.NodePublishVolumeRequest](b)
	for key, want := range map[string]string{
		"size": "1", "csi.storage.k8s.io/pod.name": "p-1", "csi.storage.k8s.io/pod.namespace": "ns", "csi.storage.k8s.io/pod.uid": "1",
		"csi.storage.k8s.io/serviceAccount.name": "sa", "csi.storage.k8s.io/ephemeral": "true",
		"csi.storage.k8s.io/serviceAccount.tokens": `{"vault":{"token":"token-for-vault","expirationTimestamp":"1970-01-01T00:16:40Z"}}`,
	} {
		if r.VolumeContext[key] != want {
			t.Errorf("%s is %q, want %q", key, r.VolumeContext[key], want)
		}
	}
	if r.Secrets["pw"] != "x" || !strings.HasPrefix(r.VolumeId, "csi-") {
		t.Errorf("request %+v", r)
	}
	b.up(p) // a driver that wants to hear again does
	if n := len(b.driver.Calls()); n != 2 {
		t.Errorf("%d calls", n)
	}
	b.down("1")
	b.clean()
}

func TestBlock(t *testing.T) {
	b := setUp(t, all...)
	b.api.about = noAttach(nil)
	b.volume("a", func(v *corev1.PersistentVolume) { v.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) })
	b.start()
	info, err := os.Stat(b.up(pod("1", "a")))
	if err != nil || info.Mode()&os.ModeDevice == 0 {
		t.Errorf("not a device: %v %v", info, err)
	}
	b.agent()
	b.registered()
	b.down("1")
	b.clean()
}

func TestGroup(t *testing.T) {
	fsType := func(s string) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) { v.Spec.CSI.FSType = s }
	}
	shared := func(v *corev1.PersistentVolume) {
		v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	}
	for _, tc := range []struct {
		name   string
		policy storagev1.FSGroupPolicy
		edit   func(*corev1.PersistentVolume)
		driver bool // sees to it
		want   uint32
	}{
		{"read-write-once with a type", storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, fsType("ext4"), false, 4321},
		{"without a type", storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, fsType(""), false, 0},
		{"shared", storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, shared, false, 0},
		{"always", storagev1.FileFSGroupPolicy, shared, false, 4321},
		{"never", storagev1.NoneFSGroupPolicy, fsType("ext4"), false, 0},
		{"by the driver", storagev1.FileFSGroupPolicy, fsType("ext4"), true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			can := all
			if tc.driver {
				can = append(slices.Clone(all), spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP)
			}
			b := setUp(t, can...)
			b.api.about = noAttach(func(s *storagev1.CSIDriverSpec) { s.FSGroupPolicy = &tc.policy })
			b.volume("a", tc.edit)
			b.start()
			p := pod("1", "a")
			p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(4321))}
			info, err := os.Stat(b.up(p))
			if err != nil {
				t.Fatal(err)
			}
			if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Gid != tc.want {
				t.Errorf("group %d, want %d", st.Gid, tc.want)
			}
			if g := last[*spec.NodePublishVolumeRequest](b).VolumeCapability.GetMount().VolumeMountGroup; (g == "4321") != tc.driver {
				t.Errorf("the driver is told of group %q", g)
			}
			b.down("1")
			b.clean()
		})
	}
}

func TestOnePodOnly(t *testing.T) {
	b := setUp(t, append(slices.Clone(all), spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER)...)
	b.api.about = noAttach(nil)
	b.volume("a", func(v *corev1.PersistentVolume) {
		v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	})
	b.start()
	b.up(pod("1", "a"))
	if m := last[*spec.NodePublishVolumeRequest](b).VolumeCapability.AccessMode.Mode; m != spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		t.Errorf("mode %v", m)
	}
	if _, err := b.set.SetUp(t.Context(), pod("2", "a")); err == nil || !strings.Contains(err.Error(), "ReadWriteOncePod access mode and is already in use") {
		t.Errorf("got %v", err)
	}
	b.down("1")
	b.up(pod("2", "a"))
	b.down("2")
	b.clean()
}

// TestHanging has a driver that answers nothing about one volume: others are not held up, and what is given up can be
// taken down when it answers again.
func TestHanging(t *testing.T) {
	b := setUp(t, all...)
	b.api.about = noAttach(nil)
	b.volume("a", nil)
	b.volume("b", nil)
	b.start()
	release := b.driver.Hang("vol-a")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := b.set.SetUp(ctx, pod("1", "a"))
		done <- err
	}()
	b.eventually("the call has arrived", func() bool { return len(b.driver.Calls()) == 1 })
	b.up(pod("2", "b"))
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	release()
	b.down("1")
	b.down("2")
	b.clean()
}

func TestGrowth(t *testing.T) {
	b := setUp(t, all...)
	b.api.about = noAttach(nil)
	b.volume("a", nil)
	b.start()
	b.up(pod("1", "a"))
	claim := b.api.claims["a"]
	claim.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: corev1.PersistentVolumeClaimFileSystemResizePending}, {Type: "Other"}}
	b.api.volumes["pv-a"].Spec.Capacity["storage"] = resource.MustParse("2Gi")
	b.driver.Fail("NodeExpandVolume", status.Error(codes.Internal, "not now"))
	b.up(pod("1", "a"))
	if b.api.claim != "" {
		t.Errorf("claim patched: %s", b.api.claim)
	}
	b.driver.Fail("NodeExpandVolume", nil)
	b.up(pod("1", "a"))
	if r := last[*spec.NodeExpandVolumeRequest](b); r.CapacityRange.RequiredBytes != 2<<30 || r.StagingTargetPath == "" {
		t.Errorf("request %+v", r)
	}
	for _, part := range []string{`"capacity":{"storage":"2Gi"}`, `"type":"Other"`, `"allocatedResourceStatuses":{"storage":null}`} {
		if !strings.Contains(b.api.claim, part) || strings.Contains(b.api.claim, "Pending") {
			t.Errorf("claim patched: %s", b.api.claim)
		}
	}
	b.driver.Fail("NodeExpandVolume", status.Error(codes.OutOfRange, "never"))
	b.up(pod("1", "a"))
	if !strings.Contains(b.api.claim, "NodeResizeInfeasible") {
		t.Errorf("claim patched: %s", b.api.claim)
	}
	b.down("1")
	b.clean()
}

func TestStats(t *testing.T) {
	b := setUp(t, all...)
	b.api.about = noAttach(nil)
	b.volume("a", nil)
	b.start()
	b.up(pod("1", "a"))
	for range 2 {
		got := b.kind.Stats(t.Context(), "1")
		if len(got) != 1 || got[0].Volume != "v" || *got[0].BytesUsed != 400 || *got[0].InodesFree != 96 {
			t.Errorf("got %+v", got)
		}
	}
	b.calls("NodeStageVolume vol-a", "NodePublishVolume vol-a", "NodeGetVolumeStats vol-a")
	b.down("1")
}
