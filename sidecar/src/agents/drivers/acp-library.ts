// What is used of the library of the Agent Client Protocol. It is large, so it stands beside the bundle and is loaded when a run needs it.
export { client, ndJsonStream } from '@agentclientprotocol/sdk'
