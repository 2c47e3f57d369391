package server

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
)

// Dashboards and alerts that were made for upstream find their series, with upstream's names and labels.
func TestMetrics(t *testing.T) {
	c, ca := files(t)
	r := start(t, c, ca)
	if code, body := r.send("admin", "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"a"}}`); code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}
	r.get("admin", "/api/v1/configmaps")
	r.get("admin", "/api/v1/configmaps?watch=1&timeoutSeconds=1")
	_, text := r.get("admin", "/metrics")
	for _, want := range []string{
		`apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1`,
		`apiserver_request_duration_seconds_count{component="apiserver",dry_run="",group="",resource="configmaps",scope="cluster",subresource="",verb="LIST",version="v1"} 1`,
		`apiserver_request_sli_duration_seconds_bucket{`, `apiserver_current_inflight_requests{request_kind="mutating"} 0`,
		`apiserver_longrunning_requests{`, `apiserver_response_sizes_count{`, `apiserver_client_certificate_expiration_seconds_count`,
		`etcd_request_duration_seconds_count{group="",operation="create",resource="configmaps"} `, `etcd_requests_total{group="",operation="create",resource="configmaps"} `,
		`etcd_request_errors_total{group="",operation="create",resource="configmaps"} 0`, `apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} `,
		`apiserver_watch_cache_events_received_total{group="",resource="configmaps"} `, `apiserver_resource_objects{group="",resource="configmaps"} `,
		`apiserver_terminated_watchers_total{group="",resource="configmaps"} 0`, `apiserver_watch_events_total{group="",resource="configmaps",version="v1"} `,
		`apiserver_watch_events_sizes_count{`, `apiserver_cache_list_total{group="",index="",resource="configmaps"} `,
		`etcd_server_has_leader 1`, `etcd_mvcc_db_total_size_in_bytes `, `etcd_disk_wal_fsync_duration_seconds_bucket{`, `etcd_server_quota_backend_bytes `,
		`hardway_apiserver_storage_full{storage_cluster_id="etcd-0"} 0`, `process_resident_memory_bytes `, `go_goroutines `,
	} {
		if !hasSeries(text, want) {
			t.Errorf("no series %s", want)
		}
	}
	_, verbose := r.get("", "/readyz?verbose")
	for _, check := range []string{"ping", "etcd", "etcd-alarms", "caches", "bootstrap", "access", "shutdown"} {
		if !strings.Contains(verbose, "[+]"+check+" ok\n") {
			t.Errorf("/readyz?verbose does not show %s: %s", check, verbose)
		}
		if code, _ := r.get("", "/readyz/"+check); code != http.StatusOK {
			t.Errorf("/readyz/%s: %d", check, code)
		}
	}
}

func hasSeries(text, prefix string) bool {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), prefix) {
			return true
		}
	}
	return false
}
