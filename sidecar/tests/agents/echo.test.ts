import { harnessContract } from './harness.contract.ts'

harnessContract({ id: 'echo', credentials: () => ({}), asksModel: false, sessions: '.cache/atoll-echo' })
