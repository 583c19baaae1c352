import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listeningPorts } from './ports.ts'

const head = '  sl  local_address rem_address   st tx_queue rx_queue\n'

test('ports that listen where loopback reaches them are found, others are not', () => {
  const table = `${head}   0: 00000000:1F90 00000000:0000 0A 0
   1: 0100007F:0BB8 00000000:0000 0A 0
   2: 0500000A:0BB9 00000000:0000 0A 0
   3: 0100007F:0BBA 0100007F:1F90 01 0
`
  assert.deepEqual(listeningPorts(table), [8080, 3000])
})

test('ports on IPv6 are found, also those that mean IPv4', () => {
  const table = `${head}   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0
   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 0
   2: 0000000000000000FFFF00000100007F:0052 00000000000000000000000000000000:0000 0A 0
   3: 000080FE000000000000000001000000:0053 00000000000000000000000000000000:0000 0A 0
`
  assert.deepEqual(listeningPorts(table), [80, 81, 82])
})
