// kill -9 of the operator before and after every side effect: nothing is lost, nothing is left, and the records tell the truth.
import { after, before, describe, test } from 'node:test'
import { faultPoints } from '../operator/src/sandboxes/faults.ts'
import { CrashJourney } from './crash-journey.ts'
import { testRuntimes } from './runtimes.ts'

for (const { name: runtime, skip } of testRuntimes) {
  describe(`an operator that dies while it works on a ${runtime} sandbox`, { skip }, () => {
    let journey: CrashJourney
    before(async () => {
      journey = await CrashJourney.start(runtime)
    })
    after(() => journey?.[Symbol.asyncDispose]())

    for (const point of faultPoints) test(point, () => journey.cycle({ point }))
  })
}
