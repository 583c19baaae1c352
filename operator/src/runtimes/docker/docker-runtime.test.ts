import { runtimeContract } from '../../sandboxes/runtime.contract.ts'
import { openForContract } from './testing/machine.ts'

runtimeContract('docker', openForContract)
