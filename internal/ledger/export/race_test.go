//go:build race

package export

// thin divides how much tests export: the race detector makes every row slow, and learns nothing from more of them.
const thin = 5
