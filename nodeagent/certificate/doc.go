// Package certificate gets a node's certificates from the cluster and renews them in time: it writes a
// CertificateSigningRequest, waits for somebody to approve it and for a signer to sign, and puts certificate and key in
// one file, replaced in one step. Who uses the file reads it again when it changes. A new key is made for every request;
// it leaves this machine never.
//
//	Bootstrap  a first client certificate and a kubeconfig that names it, by means of a token that may only ask for that
//	Keeper     one certificate, renewed when 70 to 90 % of its life are over
//
// While the API, an approver or a signer is missing the certificate in use stays in use, and it is asked for again.
package certificate
