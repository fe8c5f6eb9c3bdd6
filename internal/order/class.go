package order

// Scores that lower an entity's orders, and the size above which nothing is urgent.
const (
	// ScoreNotHigh is the score from which an entity's orders are never High.
	ScoreNotHigh = 3
	// ScoreLow is the score from which all of an entity's orders are Low.
	ScoreLow = 6
	// MaxHighSize is the largest body, in bytes, that may be High (CORRECTNESS 6).
	MaxHighSize = 256 << 10
)

// Classify returns the class of a submission of size bytes by an entity with the given score. The
// first row that matches decides:
//
//	score ≥ 6                                                            Low
//	a blob transaction anywhere, with or without sidecar                 Low
//	score ≥ 3, or a body above 256 KiB                                   Medium
//	a cancel, a subsidy                                                  High
//	a replacement UUID, all transactions may revert, a raw transaction   High
//	everything else                                                      Medium
func Classify(score float64, s *Submission, size int) Priority {
	switch {
	case score >= ScoreLow, s.HasBlob():
		return PriorityLow
	case score >= ScoreNotHigh, size > MaxHighSize:
		return PriorityMedium
	case s.Kind == KindCancel, s.Kind == KindSubsidy, s.Kind == KindTransaction, !s.Replacement.IsZero(), s.AllReverting():
		return PriorityHigh
	default:
		return PriorityMedium
	}
}
