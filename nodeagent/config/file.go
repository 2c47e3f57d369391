package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"sigs.k8s.io/yaml"
)

const (
	fileVersion = "kubelet.config.k8s.io/v1beta1"
	fileKind    = "KubeletConfiguration"
)

// used are the fields of a KubeletConfiguration that have their effect here.
var used = []string{
	"kind", "apiVersion", "enableServer", "podLogsDir", "address", "port", "tlsCertFile", "tlsPrivateKeyFile", "authentication",
	"authorization", "healthzPort", "healthzBindAddress", "clusterDomain", "clusterDNS", "streamingConnectionIdleTimeout",
	"nodeStatusUpdateFrequency", "nodeStatusReportFrequency", "nodeLeaseDurationSeconds", "cgroupRoot", "maxPods", "podCIDR",
	"podPidsLimit", "resolvConf", "cpuCFSQuota", "cpuCFSQuotaPeriod", "maxParallelImagePulls", "containerLogMaxSize",
	"containerLogMaxFiles", "systemReserved", "kubeReserved", "allowedUnsafeSysctls", "providerID", "crashLoopBackOff",
	"seccompDefault", "registerWithTaints", "registerNode", "evictionHard", "evictionSoft", "evictionSoftGracePeriod",
	"evictionMinimumReclaim", "evictionPressureTransitionPeriod", "evictionMaxPodGracePeriod", "imageGCHighThresholdPercent",
	"imageGCLowThresholdPercent", "imageMinimumGCAge", "staticPodPath", "fileCheckFrequency", "imageMaximumGCAge", "enforceNodeAllocatable",
	"rotateCertificates", "serverTLSBootstrap",
}

// settled are fields of which one value is what this agent does anyway.
var settled = map[string]string{
	"readOnlyPort": "0", "serializeImagePulls": "false", "cgroupDriver": "cgroupfs", "cgroupsPerQOS": "true",
	"configMapAndSecretChangeDetectionStrategy": "Watch", "failCgroupV1": "false", "failSwapOn": "false",
	"enableControllerAttachDetach": "true", "enableDebuggingHandlers": "true", "makeIPTablesUtilChains": "false",
}

// readFile reads the file strictly: an unknown or doubled field is an error.
func (c *Config) readFile() error {
	if c.File == "" {
		return nil
	}
	data, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &c.Kubelet); err != nil {
		return fmt.Errorf("--config %s: %w", c.File, err)
	}
	if c.Kubelet.APIVersion != fileVersion || c.Kubelet.Kind != fileKind {
		return fmt.Errorf("--config %s: is %s %s, must be %s %s", c.File, c.Kubelet.APIVersion, c.Kubelet.Kind, fileVersion, fileKind)
	}
	c.Unused, err = unused(data)
	if err != nil {
		return fmt.Errorf("--config %s: %w", c.File, err)
	}
	dir := filepath.Dir(c.File)
	for _, p := range []*string{&c.Kubelet.TLSCertFile, &c.Kubelet.TLSPrivateKeyFile, &c.Kubelet.Authentication.X509.ClientCAFile, c.Kubelet.ResolverConfig} {
		if p != nil && *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return nil
}

// unused lists the fields that the file sets and that do nothing here.
func unused(data []byte) ([]string, error) {
	var fields map[string]any
	if err := yaml.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	var out []string
	for name, value := range fields {
		if slices.Contains(used, name) || isZero(value) {
			continue
		}
		if same, ok := settled[name]; ok && fmt.Sprint(value) == same {
			continue
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

func isZero(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Map || r.Kind() == reflect.Slice {
		return r.Len() == 0
	}
	return r.IsZero()
}
