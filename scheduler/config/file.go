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

// oldest is the version from before there was the group.
const oldest = "componentconfig/v1alpha1"

// load lays a KubeSchedulerConfiguration onto c. Versions before v1 are read for what old guides have in them: the
// connection, the election and, in v1beta1 to v1beta3, profiles. Whatever else is in a file is refused by name.
func (c *Config) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var file schedulerv1.KubeSchedulerConfiguration
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	_, ofGroup := strings.CutPrefix(file.APIVersion, group)
	if file.Kind != "KubeSchedulerConfiguration" || !ofGroup && file.APIVersion != oldest {
		return fmt.Errorf("--config %s: is %s %s, want %sv1 KubeSchedulerConfiguration", path, file.APIVersion, file.Kind, group)
	}
	if err := c.take(&file); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	return nil
}

func (c *Config) take(file *schedulerv1.KubeSchedulerConfiguration) error {
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
		c.Profiles = file.Profiles
	}
	c.Extenders = file.Extenders
	c.Sampling = file.PercentageOfNodesToScore != nil
	for _, p := range c.Profiles {
		c.Sampling = c.Sampling || p.PercentageOfNodesToScore != nil
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
