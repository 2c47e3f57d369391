package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// token is where a list goes on, in upstream's form, so that a client may go on with another apiserver.
type token struct {
	Version string `json:"v"`
	// Rev is the revision of the list; -1: whatever is newest, which makes the list inconsistent.
	Rev   int64  `json:"rv"`
	Start string `json:"start"` // key to start from, below the list's prefix
}

const (
	tokenVersion = "meta.k8s.io/v1"
	newest       = -1
)

// encodeToken makes the token to go on after a key.
func encodeToken(lastKey, prefix string, rev int64) string {
	data, err := json.Marshal(token{tokenVersion, rev, strings.TrimPrefix(lastKey, prefix) + "\x00"})
	if err != nil {
		panic(err) // a struct of a number and strings
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// decodeToken returns the key to start from and the revision. The key cannot lead out of the prefix.
func decodeToken(s, prefix string) (from string, rev int64, err error) {
	const invalid = "continue key is not valid"
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", invalid, err)
	}
	var t token
	if err := json.Unmarshal(data, &t); err != nil {
		return "", 0, fmt.Errorf("%s: %w", invalid, err)
	}
	switch {
	case t.Version != tokenVersion:
		return "", 0, fmt.Errorf("%s: server does not recognize this encoded version %q", invalid, t.Version)
	case t.Rev == 0:
		return "", 0, errors.New(invalid + ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	case t.Start == "":
		return "", 0, errors.New(invalid + ": encoded start key empty (version meta.k8s.io/v1)")
	}
	key := "/" + strings.TrimPrefix(t.Start, "/")
	if path.Clean(key) != key {
		return "", 0, fmt.Errorf("%s: %s", invalid, t.Start)
	}
	return prefix + key[1:], t.Rev, nil
}

const (
	listExpired          = "The resourceVersion for the provided list is too old."
	inconsistentContinue = "The provided continue parameter is too old to display a consistent list result. You can " +
		"start a new list without the continue parameter, or use the continue token in this response to retrieve the " +
		"remainder of the results. Continuing with the provided token results in an inconsistent list - objects that " +
		"were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."
)

// expired is the Status for a list whose revision is gone; from is where a continued list was, else empty.
func expired(from, prefix string) error {
	if from == "" {
		return apierrors.NewResourceExpired(listExpired)
	}
	err := apierrors.NewResourceExpired(inconsistentContinue)
	err.ErrStatus.ListMeta.Continue = encodeToken(strings.TrimSuffix(from, "\x00"), prefix, newest)
	return err
}

// parseRevision reads a resourceVersion; "" and "0" are 0.
func parseRevision(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	rev, err := strconv.ParseInt(s, 10, 64)
	if err != nil || rev < 0 {
		return 0, fmt.Errorf("invalid resource version %q", s)
	}
	return rev, nil
}
