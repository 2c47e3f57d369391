package encryption

// upstreams was made with the transformers of k8s.io/apiserver v0.36.3 as /registry/secrets/ns/s, with key1 of 32 bytes 1.
var upstreams = map[string]string{
	"aescbc":    "azhzOmVuYzphZXNjYmM6djE6a2V5MTopF5IxCH7mYmRCxXyPc4Sp8fHrr8q+qJ5SfMk7eIamjg==",
	"aesgcm":    "azhzOmVuYzphZXNnY206djE6a2V5MTrD4WYsVXwgj6wIRy8Kg26MSpCRYleiPZEUWT371dDZXj2E2+8CcpnQgBg=",
	"secretbox": "azhzOmVuYzpzZWNyZXRib3g6djE6a2V5MToOdQ1k7+FrMgE5XRrC5A0PpKaRmi+emA67L1nlCtLTxp4/bTUnwSz96oQTo3Eb/nzDsFwXJBs=",
}

// upstreamsKeyService was made likewise with envelope/kmsv2, the provider vault and a service as in keeper.
const upstreamsKeyService = "azhzOmVuYzprbXM6djI6dmF1bHQ6Ckp1AOpRUsaydg8h3QeF0t0OWZ1PC/Jdoe9ZncVPz9s1pFkAPf2/GGMtP+Bsfp42cB6aumv8CKlll3BoW0iPUq2cO9DBeLy5N1QaYRICazEaISG/XQDr08815ReXmJ9r1NPWqxP4TqMrvqtwSGhfVD/+oSISCg1hLmV4YW1wbGUuY29tEgF4KAE="
