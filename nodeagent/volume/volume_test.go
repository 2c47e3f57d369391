package volume_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/configmap"
	"hardway/nodeagent/volume/downwardapi"
	"hardway/nodeagent/volume/emptydir"
	"hardway/nodeagent/volume/hostpath"
	"hardway/nodeagent/volume/projected"
	"hardway/nodeagent/volume/secret"
)

type objects struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string][]byte
}

func (o objects) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	if d, ok := o.configMaps[name]; ok {
		return &corev1.ConfigMap{Data: d, BinaryData: map[string][]byte{"bin": {0, 1}}}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (o objects) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	if d, ok := o.secrets[name]; ok {
		return &corev1.Secret{Data: d}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

type tokens struct{ err error }

func (t tokens) Token(context.Context, *corev1.Pod, *corev1.ServiceAccountTokenProjection) (string, error) {
	return "token", t.err
}

func set(t *testing.T, o objects) *volume.Set {
	t.Helper()
	node := func() fields.Node {
		return fields.Node{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("2")}}
	}
	s := volume.NewSet(t.TempDir(), nil, emptydir.Type{}, hostpath.Type{}, configmap.Type{Objects: o}, secret.Type{Objects: o},
		downwardapi.Type{Node: node}, projected.Type{Objects: o, Node: node, Tokens: tokens{}})
	t.Cleanup(func() {
		if err := s.TearDown(context.Background(), "u"); err != nil {
			t.Error(err)
		}
	})
	return s
}

func pod(sources ...corev1.VolumeSource) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Namespace: "ns", Name: "p", Labels: map[string]string{"b": "2", "a": `1"`}}}
	for i, s := range sources {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: string(rune('a' + i)), VolumeSource: s})
	}
	return p
}

// needsMounts skips where tmpfs cannot be mounted.
func needsMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}

func content(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir+"/..data/", func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		info, _ := d.Info()
		out = append(out, strings.TrimPrefix(p, dir+"/..data/")+"("+info.Mode().String()[1:]+")="+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func TestSources(t *testing.T) {
	needsMounts(t)
	o := objects{map[string]map[string]string{"cm": {"k": "v"}}, map[string]map[string][]byte{"s": {"pw": []byte("x")}}}
	mode, yes := int32(0o400), true
	name := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	item := func(key, path string) []corev1.KeyToPath { return []corev1.KeyToPath{{Key: key, Path: path}} }
	label := corev1.DownwardAPIVolumeFile{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}
	for _, tc := range []struct {
		name   string
		source corev1.VolumeSource
		want   string // content or error
	}{
		{"configMap", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("cm")}}, "bin(rw-r--r--)=\x00\x01 k(rw-r--r--)=v"},
		{"with items and mode", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("cm"), Items: item("k", "x/y"), DefaultMode: &mode}}, "x/y(r--------)=v"},
		{"missing key", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("cm"), Items: item("no", "x")}}, "references non-existent config key: no"},
		{"missing object", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("no")}}, `MountVolume.SetUp failed for volume "a" : configmaps "no" not found`},
		{"missing but optional", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("no"), Optional: &yes}}, ""},
		{"secret", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: &mode}}, "pw(r--------)=x"},
		{"downwardAPI", corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{label}}}, "labels(rw-r--r--)=a=\"1\\\"\"\nb=\"2\""},
		{"projected", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name("cm"), Items: item("k", "k")}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: name("s")}},
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
		}}}, "k(rw-r--r--)=v pw(rw-r--r--)=x token(rw-r--r--)=token"},
		{"projected with something missing", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: name("no")}}, {ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}},
		}}}, "clusterTrustBundle is not supported"},
		{"a type of its own", corev1.VolumeSource{RBD: &corev1.RBDVolumeSource{}}, `install its CSI driver`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			paths, err := set(t, o).SetUp(t.Context(), pod(tc.source))
			if err != nil {
				if tc.want == "" || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if got := content(t, paths["a"]); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestChangesAreShown(t *testing.T) {
	o := objects{configMaps: map[string]map[string]string{"cm": {"k": "old"}}}
	s := set(t, o)
	p := pod(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})
	paths, err := s.SetUp(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	o.configMaps["cm"]["k"] = "new"
	if _, err := s.SetUp(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(paths["a"], "k")); string(data) != "new" {
		t.Errorf("k is %q", data)
	}
}

func TestEmptyDir(t *testing.T) {
	needsMounts(t)
	limit := resource.MustParse("1Mi")
	s := set(t, objects{})
	p := pod(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
		corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &limit}})
	paths, err := s.SetUp(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		info, err := os.Stat(paths[name])
		if err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%s: %v %v", name, info, err)
		}
		if err := os.WriteFile(filepath.Join(paths[name], "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(paths["b"], "big"), make([]byte, 2<<20), 0o600); err == nil {
		t.Error("the size limit of a volume in memory does not hold")
	}
	if _, err := s.SetUp(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := os.Stat(filepath.Join(paths[name], "f")); err != nil {
			t.Errorf("%s lost its content when set up again: %v", name, err)
		}
	}
	if err := s.TearDown(context.Background(), "u"); err != nil {
		t.Fatal(err)
	}
	if s.Exists("u") {
		t.Error("something is left")
	}
	bad := pod(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "HugePages"}})
	if _, err := s.SetUp(t.Context(), bad); err == nil {
		t.Error("an unknown medium was accepted")
	}
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "file"), filepath.Join(dir, "sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tc := range []struct {
		kind corev1.HostPathType
		path string
		ok   bool
	}{
		{"", dir, true}, {"", filepath.Join(dir, "made"), true}, {corev1.HostPathDirectory, dir, true}, {corev1.HostPathDirectory, file, false},
		{corev1.HostPathDirectory, dir + "/no", false}, {corev1.HostPathDirectoryOrCreate, dir + "/made2/x", true}, {corev1.HostPathFile, file, true},
		{corev1.HostPathFile, dir, false}, {corev1.HostPathFileOrCreate, dir + "/f2", true}, {corev1.HostPathSocket, socket, true},
		{corev1.HostPathSocket, file, false}, {corev1.HostPathCharDev, "/dev/null", true}, {corev1.HostPathCharDev, file, false},
		{corev1.HostPathBlockDev, "/dev/null", false}, {"Nonsense", dir, false},
	} {
		_, err := hostpath.Type{}.SetUp(t.Context(), volume.Request{Volume: &corev1.Volume{VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: tc.path, Type: &tc.kind}}}})
		if (err == nil) != tc.ok {
			t.Errorf("%q %s: %v", tc.kind, tc.path, err)
		}
		if _, serr := os.Stat(tc.path); tc.ok && serr != nil {
			t.Errorf("%q %s is not there", tc.kind, tc.path)
		}
	}
}
