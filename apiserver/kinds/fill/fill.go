// Package fill sets what an object leaves out: the small change of defaulting.
package fill

// Ptr points p to a copy of value when it points nowhere.
func Ptr[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// Zero sets what p points to when that is the zero value.
func Zero[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
