//go:build !race

package export

// thin divides how much tests export, under the race detector.
const thin = 1
