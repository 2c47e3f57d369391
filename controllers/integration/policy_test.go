package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
	"hardway/shared/quota"
)

// testQuota counts pods, Secrets and Deployments, and what is given back.
func testQuota(t *testing.T, c *cluster) {
	ns := c.namespace("quota")
	hard := corev1.ResourceList{
		"pods": resource.MustParse("3"), "requests.cpu": resource.MustParse("1"), "secrets": resource.MustParse("9"),
		"count/deployments.apps": resource.MustParse("2"), "count/things.example.org": resource.MustParse("1"),
	}
	if _, err := client.ResourceQuotas.Create(t.Context(), c.api, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}); err != nil {
		t.Fatal(err)
	}
	used := func(want string) func() string {
		return func() string {
			q, err := client.ResourceQuotas.Get(t.Context(), c.api, ns, "q")
			if err != nil || quota.Text(q.Status.Used) != want || len(q.Status.Hard) != len(hard) {
				return fmt.Sprintf("%v, used %s, want %s", err, quota.Text(q.Status.Used), want)
			}
			return ""
		}
	}
	c.eventually("nothing is used", used("count/deployments.apps=0,pods=0,requests.cpu=0,secrets=0"))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: template("v1").Spec}
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("600m")}
	if _, err := client.Pods.Create(t.Context(), c.api, pod); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Secrets.Create(t.Context(), c.api, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "s"}}); err != nil {
		t.Fatal(err)
	}
	none := newDeployment(ns, 0)
	if _, err := client.Deployments.Create(t.Context(), c.api, none); err != nil {
		t.Fatal(err)
	}
	c.eventually("one of each", used("count/deployments.apps=1,pods=1,requests.cpu=600m,secrets=1"))
	if err := client.Pods.Delete(t.Context(), c.api, ns, "web", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if err := client.Secrets.Delete(t.Context(), c.api, ns, "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the pod and the Secret are given back", used("count/deployments.apps=1,pods=0,requests.cpu=0,secrets=0"))
}

// testTTL: a Job that ended goes when its time is over.
func testTTL(t *testing.T, c *cluster) {
	ns := c.namespace("ttl")
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "done"}, Spec: batchv1.JobSpec{
		TTLSecondsAfterFinished: new(int32(0)), ActiveDeadlineSeconds: new(int64(1)), Template: template("v1"),
	}}
	job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	if _, err := client.Jobs.Create(t.Context(), c.api, job); err != nil {
		t.Fatal(err)
	}
	c.eventually("the Job goes", func() string { return gone(client.Jobs.Get(t.Context(), c.api, ns, "done")) })
}

// testLoadBalancer: a Service gets an address, keeps it, and gives it back when it is no load balancer any more.
func testLoadBalancer(t *testing.T, c *cluster) {
	ns := c.namespace("balanced")
	_, err := client.Services.Create(t.Context(), c.api, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: "192.0.2.17", Ports: []corev1.ServicePort{{Port: 80}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	has := func(want string) func() string {
		return func() string {
			s, err := client.Services.Get(t.Context(), c.api, ns, "web")
			got := ""
			for _, in := range s.Status.LoadBalancer.Ingress {
				got += in.IP
			}
			if err != nil || got != want {
				return fmt.Sprintf("%v, %q, want %q", err, got, want)
			}
			return ""
		}
	}
	c.eventually("an address", has("192.0.2.17"))
	if _, err := client.Services.Patch(t.Context(), c.api, ns, "web", types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP","loadBalancerIP":null}}`)); err != nil {
		t.Fatal(err)
	}
	c.eventually("none", has(""))
}

// TestCertificates: a node's request is approved and signed; one that a signer does not sign fails and says why.
func TestCertificates(t *testing.T) {
	c := newCluster(t)
	if c.caKey == "" {
		t.Skip("the authority's key of this cluster is not known")
	}
	c.start("--cluster-signing-cert-file="+c.ca, "--cluster-signing-key-file="+c.caKey)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(name string, subject pkix.Name) {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.CertificateSigningRequests.Create(t.Context(), c.api, &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.CertificateSigningRequestSpec{
				Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
				SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
				Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func(name string) *certificatesv1.CertificateSigningRequest {
		r, err := client.CertificateSigningRequests.Get(t.Context(), c.api, "", name)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	ask("node", pkix.Name{CommonName: "system:node:n", Organization: []string{"system:nodes"}})
	c.eventually("a certificate", func() string {
		if r := get("node"); len(r.Status.Certificate) == 0 {
			return fmt.Sprintf("%+v", r.Status)
		}
		return ""
	})
	ask("person", pkix.Name{CommonName: "jane"})
	r := get("person")
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"}}
	if _, err := client.CertificateSigningRequests.Update(t.Context(), c.api, r, "approval"); err != nil {
		t.Fatal(err)
	}
	c.eventually("a failure", func() string {
		for _, cond := range get("person").Status.Conditions {
			if cond.Type == certificatesv1.CertificateFailed {
				return ""
			}
		}
		return "no such condition"
	})
}
