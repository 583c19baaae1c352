// How both OpenAI protocols say that something went wrong.

const known: Readonly<Record<number, { type: string; code: string }>> = {
  401: { type: 'invalid_request_error', code: 'invalid_api_key' },
  403: { type: 'invalid_request_error', code: 'permission_denied' },
  404: { type: 'invalid_request_error', code: 'model_not_found' },
  429: { type: 'rate_limit_error', code: 'rate_limit_exceeded' },
}

export const openaiFailure = (status: number, message: string): unknown => ({
  error: { message, param: null, ...(known[status] ?? { type: 'server_error', code: 'server_error' }) },
})
