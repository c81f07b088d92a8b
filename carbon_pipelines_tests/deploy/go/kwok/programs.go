//go:build programs

// Package programs names what is built here, so that go.mod and go.sum hold what that needs.
package programs

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
