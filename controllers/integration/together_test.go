package integration

import "testing"

// TestTogether runs the tests that need no flags and no cluster of their own in one cluster, at the same time: starting
// an API server for each took most of their time.
func TestTogether(t *testing.T) {
	c := newCluster(t)
	c.start("--load-balancer-pool=192.0.2.10-192.0.2.20")
	for name, run := range map[string]func(*testing.T, *cluster){
		"BackgroundDeletionGoesDown":  testBackgroundDeletionGoesDown,
		"ForegroundDeletionWaits":     testForegroundDeletionWaits,
		"ForegroundDeletionOfACircle": testForegroundDeletionOfACircle,
		"Orphaning":                   testOrphaning,
		"OwnersThatDoNotExist":        testOwnersThatDoNotExist,
		"Namespace":                   testNamespace,
		"EndpointsOfAService":         testEndpointsOfAService,
		"HeadlessService":             testHeadlessService,
		"ManyEndpoints":               testManyEndpoints,
		"Mirroring":                   testMirroring,
		"Deployment":                  testDeployment,
		"Recreate":                    testRecreate,
		"ReplicaSetAdoptsAndReleases": testReplicaSetAdoptsAndReleases,
		"ConditionTaints":             testConditionTaints,
		"Quota":                       testQuota,
		"BudgetOfACustomOwner":        testBudgetOfACustomOwner,
		"TTL":                         testTTL,
		"LoadBalancer":                testLoadBalancer,
		"StaticVolumes":               testStaticVolumes,
		"LocalVolumes":                testLocalVolumes,
		"EphemeralClaims":             testEphemeralClaims,
		"ResourceClaims":              testResourceClaims,
		"Attach":                      testAttach,
		"AttributesClass":             testAttributesClass,
		"ServiceRange":                testServiceRange,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, c.in(t))
		})
	}
}
