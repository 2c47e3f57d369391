package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/request"
	"hardway/apiserver/review"
)

// WebhookOptions are a server that knows whose tokens are whose.
type WebhookOptions struct {
	Kubeconfig string
	// Version of TokenReview: v1, or v1beta1 for old servers.
	Version string
	// Remember is how long an answer holds.
	Remember time.Duration
	// Audiences are the names of this API server.
	Audiences []string
	Now       func() time.Time // nil: the real clock
}

// Webhook asks a server about tokens, by TokenReviews. It comes last among the Tokens: what it does not know is unknown.
type Webhook struct {
	o       WebhookOptions
	client  *review.Client
	answers *review.Answers[authenticationv1.TokenReviewStatus]
}

// webhookAnswers is how many answers are remembered, and webhookTimeout what one attempt may take.
const (
	webhookAnswers = 4096
	webhookTimeout = 30 * time.Second
)

// OpenWebhook reads the kubeconfig file.
func OpenWebhook(o WebhookOptions) (*Webhook, error) {
	if o.Version != "v1" && o.Version != "v1beta1" {
		return nil, fmt.Errorf("authentication webhook: the version is v1 or v1beta1, not %q", o.Version)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	client, err := review.Open(o.Kubeconfig, 0, webhookTimeout)
	if err != nil {
		return nil, fmt.Errorf("authentication webhook: %w", err)
	}
	return &Webhook{o: o, client: client, answers: review.NewAnswers[authenticationv1.TokenReviewStatus](webhookAnswers)}, nil
}

// Authenticate asks whose token it is. An answer without audiences is for this API server.
func (w *Webhook) Authenticate(ctx context.Context, token string, audiences []string) (*Identity, error) {
	wanted := audiences
	if len(wanted) == 0 {
		wanted = w.o.Audiences
	}
	key := []byte(strings.Join(append(slices.Clone(wanted), token), "\x00"))
	status, known := w.answers.Get(key, w.o.Now())
	if !known {
		q := &authenticationv1.TokenReview{
			TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.GroupName + "/" + w.o.Version, Kind: "TokenReview"},
			Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: wanted},
		}
		var answer authenticationv1.TokenReview
		if err := w.client.Ask(ctx, q, &answer); err != nil {
			return nil, fmt.Errorf("authentication webhook: %w", err)
		}
		status = answer.Status
		if w.o.Remember > 0 {
			w.answers.Add(key, status, w.o.Now().Add(w.o.Remember))
		}
	}
	switch {
	case !status.Authenticated && status.Error != "":
		return nil, errors.New("authentication webhook: " + status.Error)
	case !status.Authenticated:
		return nil, errors.New("unknown token")
	}
	named := status.Audiences
	if len(named) == 0 {
		named = w.o.Audiences
	}
	shared := slices.DeleteFunc(slices.Clone(wanted), func(a string) bool { return !slices.Contains(named, a) })
	if len(shared) == 0 {
		return nil, fmt.Errorf("the token is for the audiences %q, not for %q", named, wanted)
	}
	user := &request.UserInfo{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups}
	if !user.In(request.Authenticated) {
		user.Groups = append(slices.Clone(user.Groups), request.Authenticated)
	}
	for name, values := range status.User.Extra {
		if user.Extra == nil {
			user.Extra = map[string][]string{}
		}
		user.Extra[name] = values
	}
	return &Identity{User: user, Audiences: shared}, nil
}
