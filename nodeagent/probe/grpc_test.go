package probe

import (
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// grpcServer serves the health protocol for the service "good".
func grpcServer(l net.Listener) (serving func(bool), stop func()) {
	h := health.NewServer()
	set := func(ok bool) {
		status := healthpb.HealthCheckResponse_NOT_SERVING
		if ok {
			status = healthpb.HealthCheckResponse_SERVING
		}
		h.SetServingStatus("good", status)
	}
	set(true)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, h)
	go s.Serve(l) //nolint:errcheck // it ends with Stop
	return set, s.Stop
}
