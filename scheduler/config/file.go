package config

import (
	"fmt"
	"os"
	"strings"
	"time"

	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"
)

// group is the API group of the file.
const group = "kubescheduler.config.k8s.io/"

// load lays a KubeSchedulerConfiguration onto c. Of versions before v1, as old guides have them, only the connection and
// the election are known; whatever else is in a file is refused by name.
func (c *Config) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var file schedulerv1.KubeSchedulerConfiguration
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	if file.Kind != "KubeSchedulerConfiguration" || !strings.HasPrefix(file.APIVersion, group) {
		return fmt.Errorf("--config %s: is %s %s, want %sv1 KubeSchedulerConfiguration", path, file.APIVersion, file.Kind, group)
	}
	if err := c.take(&file); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	return nil
}

func (c *Config) take(file *schedulerv1.KubeSchedulerConfiguration) error {
	switch {
	case len(file.Extenders) > 0:
		return fmt.Errorf("extenders: not supported yet")
	case file.PercentageOfNodesToScore != nil && *file.PercentageOfNodesToScore != 0 && *file.PercentageOfNodesToScore != 100:
		return fmt.Errorf("percentageOfNodesToScore: every node is looked at here, only 0 and 100 are allowed")
	}
	set(&c.Kubeconfig, file.ClientConnection.Kubeconfig)
	if e := file.LeaderElection; e.LeaderElect != nil {
		c.LeaderElect = *e.LeaderElect
	}
	e := file.LeaderElection
	set(&c.Election.Name, e.ResourceName)
	set(&c.Election.Namespace, e.ResourceNamespace)
	set(&c.Election.Lease, e.LeaseDuration.Duration)
	set(&c.Election.Renew, e.RenewDeadline.Duration)
	set(&c.Election.Retry, e.RetryPeriod.Duration)
	if s := file.PodInitialBackoffSeconds; s != nil {
		c.Queue.InitialBackoff = time.Duration(*s) * time.Second
	}
	if s := file.PodMaxBackoffSeconds; s != nil {
		c.Queue.MaxBackoff = time.Duration(*s) * time.Second
	}
	if len(file.Profiles) > 0 {
		c.Schedulers = nil
	}
	for i, p := range file.Profiles {
		if p.Plugins != nil || len(p.PluginConfig) > 0 || p.PercentageOfNodesToScore != nil {
			return fmt.Errorf("profiles[%d]: only schedulerName is supported yet", i)
		}
		name := "default-scheduler"
		if p.SchedulerName != nil {
			name = *p.SchedulerName
		}
		c.Schedulers = append(c.Schedulers, name)
	}
	return nil
}

// set overwrites to with a value that is not zero.
func set[T comparable](to *T, value T) {
	var zero T
	if value != zero {
		*to = value
	}
}
