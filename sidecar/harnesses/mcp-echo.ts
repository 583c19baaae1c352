// An MCP server with one tool, `echo`, for the proof that a harness speaks MCP: `--log FILE` gets a line for each call.
import { appendFileSync } from 'node:fs'
import readline from 'node:readline'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { log: { type: 'string' } } })
const inputSchema = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] }

interface Request {
  readonly id?: number | string
  readonly method: string
  readonly params?: { readonly protocolVersion?: string; readonly arguments?: { readonly text?: string } }
}

function resultOf({ method, params }: Request): object {
  switch (method) {
    case 'initialize':
      return { protocolVersion: params?.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'probe', version: '1' } }
    case 'tools/list':
      return { tools: [{ name: 'echo', description: 'Answers what it is told.', inputSchema }] }
    case 'tools/call':
      if (values.log) appendFileSync(values.log, `${params?.arguments?.text}\n`)
      return { content: [{ type: 'text', text: `echo: ${params?.arguments?.text}` }] }
    default:
      return {}
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const request: Request = JSON.parse(line)
  // What has no id wants no answer.
  if (request.id !== undefined) process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id: request.id, result: resultOf(request) })}\n`)
}
