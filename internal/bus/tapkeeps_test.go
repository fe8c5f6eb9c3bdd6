package bus

import "testing"

// What holds for orders that the consumers bring holds with the tap on: each of these also runs by
// itself, with the tap off.
func TestTapKeepsWhatHoldsWithoutIt(t *testing.T) {
	t.Parallel()
	keepsWhatHolds(t)
}

// And it holds where consumers are moved over what was tapped instead of bringing it.
func TestTapPassingKeepsWhatHoldsWithoutIt(t *testing.T) {
	t.Parallel()
	keepsWhatHolds(t)
}

func keepsWhatHolds(t *testing.T) {
	t.Helper()
	for name, f := range map[string]func(*testing.T){
		"acks after finish":    TestConsumedOrdersAreAckedAfterTheirFinish,
		"unknown errors":       TestRule08UnknownErrorIsDeliveredAgainAndRefusalIsNot,
		"urgent between steps": TestUrgentOrderRunsBetweenTheStepsOfAnotherInTheSameSlot,
		"dead worker":          TestOrdersOfADeadWorkerGoToAnotherOne,
		"long order":           TestOrderThatTakesLongIsNotHandedOutTwice,
		"shutdown":             TestShutdownFinishesWhatWasBegunAndHandsBackTheRest,
		"restarts under load":  TestNothingIsLostWhenTheServerRestartsUnderPublishAndConsume,
		"deleted consumer":     TestDeletedConsumerIsMadeAgain,
		"voids":                TestVoidAndUndecodableMessagesAreTakenOffTheStream,
		"bounded class":        TestWhatAProcessHoldsOfAClassIsBounded,

		"feed in order":           TestFeedHandsOutInOrderAndAcksBySequence,
		"body again":              TestFeedReadsABodyAgain,
		"new owner":               TestRule12NewOwnerGetsWhatTheOldOneDidNotAck,
		"new target":              TestRule17NewTargetStartsAtWhatMayStillBeDelivered,
		"one name one url":        TestRule17OneNameHasOneURL,
		"one name one scope":      TestRule17OneNameHasOneScope,
		"local feed":              TestLocalFeedIsHandedNoOrdersOfPeers,
		"local feed repairs":      TestLocalFeedReadsAgainWhatWasLostOnTheWay,
		"lost on the way":         TestWhatIsLostBetweenServerAndClientIsReadAgainAtOnce,
		"feed over restarts":      TestFeedSurvivesRestartsOfTheServer,
		"repair jumps":            TestRepairJumpsOverWhatWasDeleted,
		"feed takes voids":        TestFeedTakesVoidsAndUndecodablesOffTheStream,
		"deleted target consumer": TestDeletedTargetConsumerIsMadeAgain,
		"removed feed":            TestRemovedFeedEndsReceivingAndMakesNoConsumer,
		"closed connection":       TestReceiverOfAClosedConnectionWaitsForItsEndInSilence,

		"publish stores":         TestPublishStoresTheOrderWithItsHeaders,
		"repeats":                TestRepeatWithinTheWindowIsNotStoredAgain,
		"never stored later":     TestRule04PublishThatIsNotAnsweredIsUnavailableAndNeverStoredLater,
		"publish over a restart": TestRule04PublishIsRetriedWithTheSameIDOverARestart,
		"full stream":            TestFullStreamIsErrFullAndPublishOKHoldsOn,
	} {
		t.Run(name, f) // side by side, as each of them says
	}
}
