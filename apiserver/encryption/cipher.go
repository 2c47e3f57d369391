package encryption

import (
	"bytes"
	"context"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/nacl/secretbox"
)

// cipher seals and opens bytes.
type cipher interface {
	// seal appends the sealed bytes to dst. Where the cipher can, key is authenticated with them.
	seal(ctx context.Context, dst, plain, key []byte) ([]byte, error)
	// open returns the plain bytes. stale says that seal would use another key by now.
	open(ctx context.Context, sealed, key []byte) (plain []byte, stale bool, err error)
}

var (
	errShort   = errors.New("the stored value is cut off")
	errOpen    = errors.New("the stored value was changed, moved from another object, or sealed by another key of this name")
	errPadding = errors.New("invalid padding on input")
)

// cbc is AES in CBC mode with PKCS#7 padding: a random IV, then the blocks. It does not notice changes.
type cbc struct{ block stdcipher.Block }

func newCBC(secret []byte) (cipher, error) {
	block, err := newAES(secret)
	return cbc{block}, err
}

func newAES(secret []byte) (stdcipher.Block, error) {
	if n := len(secret); n != 16 && n != 24 && n != 32 {
		return nil, fmt.Errorf("has %d bytes, must have 16, 24 or 32", n)
	}
	return aes.NewCipher(secret)
}

func (c cbc) seal(_ context.Context, dst, plain, _ []byte) ([]byte, error) {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	at := len(dst)
	out := slices.Grow(dst, aes.BlockSize+len(plain)+pad)
	out = out[:at+aes.BlockSize]
	if _, err := rand.Read(out[at:]); err != nil {
		return nil, err
	}
	out = append(out, plain...)
	out = append(out, bytes.Repeat([]byte{byte(pad)}, pad)...)
	blocks := out[at+aes.BlockSize:]
	stdcipher.NewCBCEncrypter(c.block, out[at:at+aes.BlockSize]).CryptBlocks(blocks, blocks)
	return out, nil
}

func (c cbc) open(_ context.Context, sealed, _ []byte) ([]byte, bool, error) {
	if len(sealed) < 2*aes.BlockSize || len(sealed)%aes.BlockSize != 0 {
		return nil, false, errShort
	}
	out := make([]byte, len(sealed)-aes.BlockSize)
	stdcipher.NewCBCDecrypter(c.block, sealed[:aes.BlockSize]).CryptBlocks(out, sealed[aes.BlockSize:])
	pad := int(out[len(out)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, false, errPadding
	}
	for _, b := range out[len(out)-pad:] {
		if int(b) != pad {
			return nil, false, errPadding
		}
	}
	return out[:len(out)-pad], false, nil
}

// gcm is AES in GCM mode: a random nonce, then the sealed bytes, which hold for their key in etcd only.
type gcm struct{ aead stdcipher.AEAD }

func newGCM(secret []byte) (cipher, error) {
	block, err := newAES(secret)
	if err != nil {
		return nil, err
	}
	aead, err := stdcipher.NewGCM(block)
	return gcm{aead}, err
}

func (c gcm) seal(_ context.Context, dst, plain, key []byte) ([]byte, error) {
	at, n := len(dst), c.aead.NonceSize()
	out := slices.Grow(dst, n+len(plain)+c.aead.Overhead())[:at+n]
	if _, err := rand.Read(out[at:]); err != nil {
		return nil, err
	}
	return c.aead.Seal(out, out[at:at+n], plain, key), nil
}

func (c gcm) open(_ context.Context, sealed, key []byte) ([]byte, bool, error) {
	n := c.aead.NonceSize()
	if len(sealed) < n+c.aead.Overhead() {
		return nil, false, errShort
	}
	out, err := c.aead.Open(nil, sealed[:n], sealed[n:], key)
	if err != nil {
		return nil, false, errOpen
	}
	return out, false, nil
}

// box is NaCl's secretbox: a random nonce, then the sealed bytes.
type box struct{ secret [32]byte }

const boxNonce = 24

func newSecretbox(secret []byte) (cipher, error) {
	if len(secret) != 32 {
		return nil, fmt.Errorf("has %d bytes, must have 32", len(secret))
	}
	return &box{[32]byte(secret)}, nil
}

func (c *box) seal(_ context.Context, dst, plain, _ []byte) ([]byte, error) {
	var nonce [boxNonce]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return secretbox.Seal(append(dst, nonce[:]...), plain, &nonce, &c.secret), nil
}

func (c *box) open(_ context.Context, sealed, _ []byte) ([]byte, bool, error) {
	if len(sealed) < boxNonce+secretbox.Overhead {
		return nil, false, errShort
	}
	nonce := [boxNonce]byte(sealed[:boxNonce])
	out, ok := secretbox.Open(nil, sealed[boxNonce:], &nonce, &c.secret)
	if !ok {
		return nil, false, errOpen
	}
	return out, false, nil
}
