package explore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Who gives no time is told so, before anything is done: no finding in no time
// would look like a kernel that keeps all laws.
func TestMachineTime(t *testing.T) {
	for _, d := range []time.Duration{0, -time.Second} {
		_, err := Machine(t.Context(), MachineOptions{For: d})
		assert.EqualError(t, err, "no time to explore: For is "+d.String())
	}
}
