/* Mistakes that the protocol must not survive: runs.txt breaks the model with each of them, and the check fails where no
 * property notices. 0 is the protocol as it is. */
#define MARK_FIRST            1  /* the sent mark before the dot */
#define FOREIGN_IS_DONE       2  /* somebody else's live claim counts as sent */
#define NO_COMPARE            3  /* fence, release and dead mark without looking whose the key is */
#define TAKE_MAKES_C          4  /* a takeover turns the D into an expiring claim */
#define DEAD_BEFORE_ACK       5  /* the dead mark before the dead letter is acknowledged */
#define NO_FENCE              6  /* the dot without a fence */
#define DIRECT_UNCLAIMED      7  /* the producer sends what is possibly persisted without a claim */
#define COMMIT_EARLY          8  /* the offset is done before there is an outcome */
#define DEAD_SETTLES_ALL      9  /* a dead mark settles the same messageID at other coordinates too */
#define TOKEN_PER_PROCESS    10  /* one token for all attempts of a process */
#define FORGET_DOUBT         11  /* an ambiguous attempt gives its D up like a failed one */
#define RELEASE_INHERITED    12  /* a failed resend gives the D up that it had taken over */
#define FENCE_LOST_GO        13  /* the dot although the fence was not answered */
#define ABANDONED_IS_DONE    14  /* what a revoke cut off counts as done */
#define DEAD_OVER_ANY        15  /* the dead mark overwrites whatever stands there */
#define TAKE_FORGETS_N       16  /* a takeover does not count the ones before it */
#define PARTIAL_MARK_FIRST   17  /* some recipients refused: the sent mark before their dead letter */
#define BLIND_SECOND_STEP    18  /* takeover and claim over a dead mark do not look whether it still stands there */
#define DOT_EXPIRES          19  /* the D expires with the lease instead of waiting to be taken over */
#define PERHAPS_IS_FAILED    20  /* the caller is told "failed" of an event that Kafka may have */
#define DIRECT_SETTLES_DOUBT 21  /* the direct sender writes a dead mark over a D that is in doubt */
#define DIRECT_CLAIMS_OVER   22  /* the direct sender claims over the dead mark of Kafka's copy of the same event */
