"""Errors as vendors write them, made small, and what each means. Loaded by the conftest files (tests are no packages)."""

# ruff: noqa: A002, E501  the vendors' words for their fields; their sentences are longer than a line

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VendorError:
    name: str
    status: int
    body: Any
    """JSON, or text that is sent as it is."""
    reason: str
    unsupported: str = ""
    repeatable: bool | None = None
    """Where it is not what the reason implies."""
    retry_after_ms: int | None = None


def openai(message: str, *, type: str = "invalid_request_error", code: Any = None, param: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def anthropic(type: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}


def gemini(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def openrouter(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_1"}


def extra_forbidden(name: str) -> dict[str, Any]:
    return {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 1}


_KEY_INVALID = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}


def _quota_failure(window: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "quotaId": f"GenerateRequestsPer{window}PerProjectPerModel-FreeTier",
            }
        ],
    }


_GEMINI_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information, head to: x"
)
_AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"hate": {"filtered": True, "severity": "high"}},
        },
    }
}

# What the table of refusals names.
CASES = [
    VendorError("OpenAI: temperature", 400, openai(
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
        code="unsupported_value", param="temperature"), "BAD_REQUEST", "temperature"),
    VendorError("no system role", 400, openai("System role not supported"), "BAD_REQUEST", "system_role"),
    VendorError("Gemini: key, as an object", 400, gemini(
        400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", _KEY_INVALID), "PROVIDER_AUTH"),
    VendorError("Gemini: key, as an array", 400, [gemini(
        400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", _KEY_INVALID)], "PROVIDER_AUTH"),
    VendorError("Anthropic: usage limits", 400, anthropic(
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."),
        "PROVIDER_QUOTA"),
    VendorError("429 with a spend limit", 429, openai("Spend limit", type="quota", code="enforced_spend_limit_reached"),
                "PROVIDER_QUOTA"),
    VendorError("xAI: length", 400, {
        "code": "Client specified an invalid argument",
        "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."},
        "CONTEXT_TOO_LONG"),
    VendorError("Anthropic: length with max_tokens", 400, anthropic(
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length"),
        "CONTEXT_TOO_LONG"),
    VendorError("vLLM: length", 400, {
        "object": "error", "message": "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
        "type": "BadRequestError", "param": None, "code": 400}, "CONTEXT_TOO_LONG"),
    VendorError("Gemini: length, as an array", 400, [gemini(
        400, "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")],
        "CONTEXT_TOO_LONG"),
    VendorError("Groq: a request above the minute's tokens", 413, openai(
        "Request too large for model `llama` in organization `org_1` service tier `on_demand` on tokens per minute (TPM): "
        "Limit 6000, Requested 7512, please reduce your message size and try again.",
        type="tokens", code="rate_limit_exceeded"), "CONTEXT_TOO_LONG"),
    VendorError("Anthropic: output blocked", 400, anthropic(
        "invalid_request_error", "Output blocked by content filtering policy"), "CONTENT_FILTERED"),
    VendorError("LM Studio: response_format", 400, {
        "error": "'response_format.type' must be 'json_schema' or 'text'"}, "BAD_REQUEST", "response_format"),
    VendorError("OpenAI: schema", 400, openai(
        "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be supplied "
        "and to be false.", param="response_format"), "BAD_REQUEST", "response_schema"),
    VendorError("DashScope: stream only", 400, openai(
        "This model only support stream mode, please enable the stream parameter to access the model. ",
        code="invalid_parameter_error"), "BAD_REQUEST", "stream_only"),
]  # fmt: skip

# Further ones of the same families.
MORE = [
    # OpenAI
    VendorError("OpenAI: max_tokens", 400, openai(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        code="unsupported_parameter", param="max_tokens"), "BAD_REQUEST", "max_tokens"),
    VendorError("OpenAI: json_schema of an old model", 400, openai(
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        param="response_format"), "BAD_REQUEST", "response_schema"),
    VendorError("OpenAI: unrecognized", 400, openai("Unrecognized request argument supplied: seed"), "BAD_REQUEST", "seed"),
    VendorError("OpenAI: the word json", 400, openai(
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
        param="messages"), "BAD_REQUEST", "response_format"),
    VendorError("OpenAI: system", 400, openai(
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        code="unsupported_value", param="messages[0].role"), "BAD_REQUEST", "system_role"),
    VendorError("OpenAI: length", 400, openai(
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        code="context_length_exceeded", param="messages"), "CONTEXT_TOO_LONG"),
    VendorError("OpenAI: quota", 429, openai(
        "You exceeded your current quota, please check your plan and billing details.",
        type="insufficient_quota", code="insufficient_quota"), "PROVIDER_QUOTA"),
    VendorError("OpenAI: rate", 429, openai(
        "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29000, Requested "
        "1500. Please try again in 1.2s. Visit x to learn more.", type="tokens", code="rate_limit_exceeded"),
        "PROVIDER_RATE_LIMITED", retry_after_ms=1200),
    VendorError("OpenAI: a day's rate", 429, openai(
        "Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in "
        "7m12s.", type="requests", code="rate_limit_exceeded"), "PROVIDER_RATE_LIMITED", repeatable=False,
        retry_after_ms=432_000),
    VendorError("OpenAI: request above the minute", 429, openai(
        "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 41000. The "
        "input or output tokens must be reduced in order to run successfully.", type="tokens",
        code="rate_limit_exceeded"), "CONTEXT_TOO_LONG"),
    VendorError("OpenAI: model", 404, openai(
        "The model `gpt-9` does not exist or you do not have access to it.", code="model_not_found"), "MODEL_NOT_FOUND"),
    VendorError("OpenAI: key", 401, openai(
        "Incorrect API key provided: sk-ab***yz. You can find your API key at x.", code="invalid_api_key"),
        "PROVIDER_AUTH"),
    VendorError("OpenAI: flagged", 400, openai(
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"),
        "CONTENT_FILTERED"),
    VendorError("OpenAI: country", 403, openai(
        "Country, region, or territory not supported", type="request_forbidden",
        code="unsupported_country_region_territory"), "PROVIDER_AUTH"),
    VendorError("OpenAI: overloaded", 503, openai(
        "The engine is currently overloaded, please try again later", type="server_error"), "PROVIDER_UNREACHABLE"),
    VendorError("OpenAI: server error", 500, openai(
        "The server had an error while processing your request. Sorry about that!", type="server_error"),
        "PROVIDER_FAILED"),
    VendorError("OpenAI: string too long", 400, openai(
        "Invalid 'messages[0].content': string too long. Expected a string with maximum length 10485760, but got a "
        "string with length 10500000 instead.", code="string_above_max_length", param="messages[0].content"),
        "CONTEXT_TOO_LONG"),
    VendorError("OpenAI: max_tokens out of range", 400, openai(
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided "
        "100000.", code="invalid_value", param="max_tokens"), "BAD_REQUEST"),
    # Azure
    VendorError("Azure: filter", 400, _AZURE_FILTER, "CONTENT_FILTERED"),
    VendorError("Azure: deployment", 404, {"error": {
        "code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
        "MODEL_NOT_FOUND"),
    VendorError("Azure: key", 401, {"error": {
        "code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}},
        "PROVIDER_AUTH"),
    VendorError("Azure: rate", 429, {"error": {
        "code": "429", "message": "Requests to the ChatCompletions_Create Operation have exceeded token rate limit of your "
        "current OpenAI S0 pricing tier. Please retry after 20 seconds."}}, "PROVIDER_RATE_LIMITED",
        retry_after_ms=20_000),
    # Anthropic
    VendorError("Anthropic: length", 400, anthropic(
        "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"), "CONTEXT_TOO_LONG"),
    VendorError("Anthropic: bytes", 413, anthropic("request_too_large", "Request exceeds the maximum size"),
                "CONTEXT_TOO_LONG"),
    VendorError("Anthropic: credit", 400, anthropic(
        "invalid_request_error", "Your credit balance is too low to access the Anthropic API."), "PROVIDER_QUOTA"),
    VendorError("Anthropic: model", 404, anthropic("not_found_error", "model: claude-9"), "MODEL_NOT_FOUND"),
    VendorError("Anthropic: permission", 403, anthropic("permission_error", "no access"), "PROVIDER_AUTH"),
    VendorError("Anthropic: rate", 429, anthropic(
        "rate_limit_error", "This request would exceed your organization's rate limit of 40,000 input tokens per minute."),
        "PROVIDER_RATE_LIMITED"),
    VendorError("Anthropic: overloaded", 529, anthropic("overloaded_error", "Overloaded"), "PROVIDER_UNREACHABLE"),
    VendorError("Anthropic: temperature", 400, anthropic(
        "invalid_request_error", "`temperature` is deprecated for this model."), "BAD_REQUEST", "temperature"),
    VendorError("Anthropic: both", 400, anthropic(
        "invalid_request_error", "`temperature` and `top_p` cannot both be specified for this model."), "BAD_REQUEST",
        "top_p"),
    VendorError("Anthropic: extra", 400, anthropic(
        "invalid_request_error", "output_config: Extra inputs are not permitted"), "BAD_REQUEST", "response_schema"),
    VendorError("Anthropic: max_tokens out of range", 400, anthropic(
        "invalid_request_error",
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku"),
        "BAD_REQUEST"),
    VendorError("Anthropic: disabled", 400, anthropic(
        "invalid_request_error", "This organization has been disabled."), "PROVIDER_AUTH"),
    # Gemini
    VendorError("Gemini: minute", 429, gemini(
        429, "RESOURCE_EXHAUSTED", _GEMINI_QUOTA, _quota_failure("Minute"),
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}), "PROVIDER_RATE_LIMITED",
        retry_after_ms=36_000),
    VendorError("Gemini: day", 429, [gemini(
        429, "RESOURCE_EXHAUSTED", _GEMINI_QUOTA, _quota_failure("Day"))], "PROVIDER_RATE_LIMITED", repeatable=False),
    VendorError("Gemini: no free tier", 429, gemini(
        429, "RESOURCE_EXHAUSTED", _GEMINI_QUOTA + "\n* Quota exceeded for metric: x/free_tier_requests, limit: 0, model: "
        "gemini-2.5-pro\nPlease retry in 20.04s."), "PROVIDER_QUOTA"),
    VendorError("Gemini: exhausted", 429, gemini(
        429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), "PROVIDER_RATE_LIMITED"),
    VendorError("Gemini: permission", 403, gemini(
        403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers."), "PROVIDER_AUTH"),
    VendorError("Gemini: location", 400, gemini(
        400, "FAILED_PRECONDITION", "User location is not supported for the API use."), "PROVIDER_AUTH"),
    VendorError("Gemini: model", 404, [gemini(
        404, "NOT_FOUND", "models/gemini-9 is not found for API version v1main, or is not supported for "
        "generateContent.")], "MODEL_NOT_FOUND"),
    VendorError("Gemini: overloaded", 503, gemini(
        503, "UNAVAILABLE", "The model is overloaded. Please try again later."), "PROVIDER_UNREACHABLE"),
    VendorError("Gemini: unknown name", 400, [gemini(
        400, "INVALID_ARGUMENT", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.')],
        "BAD_REQUEST", "seed"),
    VendorError("Gemini: developer instruction", 400, gemini(
        400, "INVALID_ARGUMENT", "Developer instruction is not enabled for models/gemma-3-27b-it"), "BAD_REQUEST",
        "system_role"),
    VendorError("Gemini: JSON mode", 400, gemini(
        400, "INVALID_ARGUMENT", "JSON mode is not enabled for models/gemma-3-27b-it"), "BAD_REQUEST",
        "response_format"),
    # Mistral
    VendorError("Mistral: extra", 422, {
        "object": "error", "message": {"detail": [extra_forbidden("stream_options")]}, "type": "invalid_request_error",
        "param": None, "code": None}, "BAD_REQUEST", "stream_options"),
    VendorError("Mistral: extra, in a text", 422, {
        "object": "error", "message": json.dumps({"detail": [extra_forbidden("seed")]}), "type": "internal_error_proxy",
        "param": None, "code": "1000"}, "BAD_REQUEST", "seed"),
    VendorError("Mistral: extra, at the top", 422, {"detail": [extra_forbidden("max_completion_tokens")]},
                "BAD_REQUEST", "max_tokens"),
    VendorError("Mistral: extra within a message", 422, {"detail": [
        {**extra_forbidden("x"), "loc": ["body", "messages", 1, "assistant", "reasoning_content"]}]}, "BAD_REQUEST"),
    VendorError("Mistral: model", 400, {
        "object": "error", "message": "Invalid model: mistral-9", "type": "invalid_model", "param": None, "code": "1500"},
        "MODEL_NOT_FOUND"),
    VendorError("Mistral: length", 400, {
        "object": "error", "message": "Prompt contains 40960 tokens and 0 draft tokens, too large for model with 32768 "
        "maximum context length", "type": "invalid_request_prompt", "param": None, "code": "3051"}, "CONTEXT_TOO_LONG"),
    VendorError("Mistral: rate", 429, {
        "object": "error", "message": "Requests rate limit exceeded", "type": "rate_limited", "param": None, "code": "1300"},
        "PROVIDER_RATE_LIMITED"),
    VendorError("Mistral: capacity", 429, {
        "object": "error", "message": "Service tier capacity exceeded for this model.", "type":
        "service_tier_capacity_exceeded", "param": None, "code": "3505"}, "PROVIDER_UNREACHABLE"),
    VendorError("Mistral: key", 401, {"detail": "Unauthorized"}, "PROVIDER_AUTH"),
    # Groq
    VendorError("Groq: a day's tokens", 429, openai(
        "Rate limit reached for model `llama` on tokens per day (TPD): Limit 100000, Used 99832, Requested 412. Please try "
        "again in 3m30.816s.", type="tokens", code="rate_limit_exceeded"), "PROVIDER_RATE_LIMITED", repeatable=False,
        retry_after_ms=210_816),
    VendorError("Groq: length", 400, openai(
        "Please reduce the length of the messages or completion.", code="context_length_exceeded", param="messages"),
        "CONTEXT_TOO_LONG"),
    VendorError("Groq: schema", 400, openai(
        "This model does not support response format `json_schema`. See supported models at x"), "BAD_REQUEST",
        "response_schema"),
    VendorError("Groq: property", 400, openai("property 'logprobs' is unsupported"), "BAD_REQUEST", "logprobs"),
    VendorError("Groq: decommissioned", 400, openai(
        "The model `mixtral-8x7b-32768` has been decommissioned and is no longer supported.", code="model_decommissioned"),
        "MODEL_NOT_FOUND"),
    VendorError("Groq: restricted", 400, openai(
        "Organization has been restricted. Please reach out to support.", code="organization_restricted"),
        "PROVIDER_AUTH"),
    # xAI
    VendorError("xAI: key", 400, {
        "code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***yz. You can obtain an "
        "API key from x."}, "PROVIDER_AUTH"),
    VendorError("xAI: credits", 403, {
        "code": "The caller does not have permission to execute the specified operation", "error": "Your newly created "
        "team doesn't have any credits yet."}, "PROVIDER_QUOTA"),
    VendorError("xAI: spending limit", 429, {
        "code": "Some resource has been exhausted", "error": "Your team has either used all available credits or reached "
        "its monthly spending limit."}, "PROVIDER_QUOTA"),
    VendorError("xAI: argument", 400, {
        "code": "Client specified an invalid argument", "error": "Argument not supported on this model: stop"},
        "BAD_REQUEST", "stop"),
    VendorError("xAI: stream_options", 400, {"code": "400", "error": "Argument not supported: stream_options"},
                "BAD_REQUEST", "stream_options"),
    VendorError("xAI: model", 404, {
        "code": "Some requested entity was not found", "error": "The model grok-9 does not exist or your team does not "
        "have access to it."}, "MODEL_NOT_FOUND"),
    VendorError("xAI: safety", 403, {
        "code": "The caller does not have permission to execute the specified operation", "error": "Content violates "
        "usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}, "CONTENT_FILTERED"),
    # OpenRouter
    VendorError("OpenRouter: credits", 402, openrouter(
        402, "This request requires more credits, or fewer max_tokens. You requested up to 8192 tokens, but can only "
        "afford 12."), "PROVIDER_QUOTA"),
    VendorError("OpenRouter: moderation", 403, openrouter(
        403, "anthropic/claude requires moderation on Anthropic. Your input was flagged for \"violence\".",
        reasons=["violence"], flagged_input="…", provider_name="Anthropic"), "CONTENT_FILTERED"),
    VendorError("OpenRouter: upstream's parameter", 400, openrouter(
        400, "Provider returned error", raw=json.dumps(openai("Unsupported parameter: 'temperature' is not supported with "
        "this model.", code="unsupported_parameter", param="temperature")), provider_name="OpenAI"), "BAD_REQUEST",
        "temperature"),
    VendorError("OpenRouter: upstream's rate", 429, openrouter(
        429, "Provider returned error", raw="z-ai/glm is temporarily rate-limited upstream. Please retry shortly.",
        provider_name="BaseTen"), "PROVIDER_RATE_LIMITED"),
    VendorError("OpenRouter: a day's free calls", 429, openrouter(
        429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"),
        "PROVIDER_RATE_LIMITED", repeatable=False),
    VendorError("OpenRouter: model", 400, openrouter(400, "foo/bar is not a valid model ID"), "MODEL_NOT_FOUND"),
    VendorError("OpenRouter: no endpoints", 404, openrouter(404, "No endpoints found for foo/bar."), "MODEL_NOT_FOUND"),
    VendorError("OpenRouter: tools", 404, openrouter(404, "No endpoints found that support tool use."), "BAD_REQUEST",
                "tools"),
    VendorError("OpenRouter: length", 400, openrouter(
        400, "This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens"),
        "CONTEXT_TOO_LONG"),
    VendorError("OpenRouter: key limit", 403, openrouter(403, "Key limit exceeded (total limit). Manage it using x"),
                "PROVIDER_QUOTA"),
    VendorError("OpenRouter: rate in a 200", 200, openrouter(429, "Provider returned error", raw="slow down"),
                "PROVIDER_RATE_LIMITED"),
    # Bedrock
    VendorError("Bedrock: length", 400, {
        "__type": "com.amazon.coral.service#ValidationException", "message": "Input is too long for requested model."},
        "CONTEXT_TOO_LONG"),
    VendorError("Bedrock: throttled", 429, {
        "__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."},
        "PROVIDER_RATE_LIMITED"),
    VendorError("Bedrock: a day's tokens", 429, {"message": "Too many tokens per day, please wait before trying again."},
                "PROVIDER_RATE_LIMITED", repeatable=False),
    VendorError("Bedrock: access", 403, {
        "__type": "AccessDeniedException", "Message": "no",
        "message": "You don't have access to the model with the specified model ID."}, "PROVIDER_AUTH"),
    VendorError("Bedrock: token", 403, {"message": "The security token included in the request is invalid."},
                "PROVIDER_AUTH"),
    VendorError("Bedrock: model", 400, {"message": "The provided model identifier is invalid."}, "MODEL_NOT_FOUND"),
    VendorError("Bedrock: profile", 400, {
        "message": "Invocation of model ID anthropic.claude-3-5-sonnet-20241022-v2:0 with on-demand throughput isn\u2019t "
        "supported. Retry your request with the ID or ARN of an inference profile that contains this model."},
        "MODEL_NOT_FOUND"),
    VendorError("Bedrock: key of the body", 400, {
        "message": "Malformed input request: #: extraneous key [seed] is not permitted, please reformat your input and "
        "try again."}, "BAD_REQUEST", "seed"),
    VendorError("Bedrock: system", 400, {
        "message": "This model doesn't support system messages. Try again without system messages or use a model that "
        "supports system messages."}, "BAD_REQUEST", "system_role"),
    VendorError("Bedrock: stop", 400, {
        "message": "This model doesn't support the stopSequences field. Remove stopSequences and try again."},
        "BAD_REQUEST", "stop"),
    VendorError("Bedrock: not ready", 429, {"__type": "ModelNotReadyException", "message": "not ready"},
                "PROVIDER_UNREACHABLE"),
    VendorError("Bedrock: failed while answering", 424, {"__type": "ModelErrorException", "message": "The model broke."},
                "PROVIDER_FAILED"),
    # DeepSeek, Moonshot, DashScope, Zhipu
    VendorError("DeepSeek: balance", 402, openai("Insufficient Balance", type="unknown_error"), "PROVIDER_QUOTA"),
    VendorError("DeepSeek: model", 400, openai("Model Not Exist"), "MODEL_NOT_FOUND"),
    VendorError("DeepSeek: risk", 400, openai("Content Exists Risk"), "CONTENT_FILTERED"),
    VendorError("DeepSeek: response_format", 400, openai("This response_format type is unavailable now"), "BAD_REQUEST",
                "response_format"),
    VendorError("Moonshot: quota", 429, openai("Your account is suspended", type="exceeded_current_quota_error"),
                "PROVIDER_QUOTA"),
    VendorError("Moonshot: length", 400, openai(
        "Invalid request: Your request exceeded model token limit: 8192"), "CONTEXT_TOO_LONG"),
    VendorError("Moonshot: temperature", 400, {
        "message": "invalid temperature: only 1 is allowed for this model", "type": "invalid_request_error"},
        "BAD_REQUEST", "temperature"),
    VendorError("Moonshot: overloaded", 429, openai("The engine is currently overloaded", type="engine_overloaded_error"),
                "PROVIDER_UNREACHABLE"),
    VendorError("MiMo: moderation", 400, {"error": {
        "code": "421", "message": "Moderation Block", "param": "The request was rejected because it was considered high "
        "risk", "type": "content_filter"}}, "CONTENT_FILTERED"),
    VendorError("DashScope: arrears", 400, {"code": "Arrearage", "message": "Access denied, please make sure your account "
                "is in good standing."}, "PROVIDER_QUOTA"),
    VendorError("DashScope: inspection", 400, openai(
        "Input data may contain inappropriate content.", code="data_inspection_failed"), "CONTENT_FILTERED"),
    VendorError("DashScope: length", 400, openai("Range of input length should be [1, 30720]"), "CONTEXT_TOO_LONG"),
    VendorError("DashScope: thinking without a stream", 400, openai(
        "parameter.enable_thinking must be set to false for non-streaming calls", code="invalid_parameter_error"),
        "BAD_REQUEST", "stream_only"),
    VendorError("Zhipu: balance", 429, {"error": {"code": "1113", "message": "您的账户余额不足"}},
                "PROVIDER_QUOTA"),
    # Together, Fireworks, Cohere, Cerebras, GitHub, Hugging Face, NVIDIA, Cloudflare
    VendorError("Together: length", 422, openai(
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens and 512"),
        "CONTEXT_TOO_LONG"),
    VendorError("Together: model", 400, openai(
        "Unable to access non-serverless model x. Please visit y to create an endpoint."), "MODEL_NOT_FOUND"),
    VendorError("Fireworks: model", 404, openai("Model not found, inaccessible, and/or not deployed", code="NOT_FOUND"),
                "MODEL_NOT_FOUND"),
    VendorError("Fireworks: length", 400, openai(
        "The prompt is too long: 140000, model maximum context length: 131071"), "CONTEXT_TOO_LONG"),
    VendorError("Fireworks: extra", 400, openai(
        "Extra inputs are not permitted, field: 'seed', value: 3"), "BAD_REQUEST", "seed"),
    VendorError("Fireworks: suspended", 412, {"error": {
        "message": "Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay past "
        "invoices."}}, "PROVIDER_QUOTA"),
    VendorError("Cohere: key", 401, {"id": "1", "message": "invalid api token"}, "PROVIDER_AUTH"),
    VendorError("Cohere: trial", 429, {
        "message": "You are using a Trial key, which is limited to 1000 API calls / month."}, "PROVIDER_QUOTA"),
    VendorError("Cohere: trial's minute", 429, {
        "message": "You are using a Trial key, which is limited to 20 API calls / minute."}, "PROVIDER_RATE_LIMITED"),
    VendorError("Cohere: length", 400, {
        "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5200."},
        "CONTEXT_TOO_LONG"),
    VendorError("Cohere: model", 404, {
        "message": "model 'command-9' not found, make sure the correct model ID was used"}, "MODEL_NOT_FOUND"),
    VendorError("Cohere: blocked", 498, {"message": "blocked"}, "CONTENT_FILTERED"),
    VendorError("Cerebras: minute", 429, {
        "message": "Tokens per minute limit exceeded - too many tokens processed.", "type": "too_many_tokens_error",
        "param": "quota", "code": "token_quota_exceeded"}, "PROVIDER_RATE_LIMITED"),
    VendorError("Cerebras: length", 400, {
        "message": "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
        "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}, "CONTEXT_TOO_LONG"),
    VendorError("GitHub Models: size", 413, {"error": {
        "code": "tokens_limit_reached", "message": "Request body too large for gpt-4o model. Max size: 8000 tokens.",
        "details": "Request body too large"}}, "CONTEXT_TOO_LONG"),
    VendorError("GitHub Models: day", 429, {"error": {
        "code": "RateLimitReached", "message": "Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait "
        "40000 seconds before retrying."}}, "PROVIDER_RATE_LIMITED", repeatable=False, retry_after_ms=40_000_000),
    VendorError("Hugging Face: credits", 402, {
        "error": "You have exceeded your monthly included credits for Inference Providers."}, "PROVIDER_QUOTA"),
    VendorError("NVIDIA: key", 403, {"status": 403, "title": "Forbidden", "detail": "Authorization failed"},
                "PROVIDER_AUTH"),
    VendorError("Cloudflare: key", 400, {
        "success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, "PROVIDER_AUTH"),
    # vLLM, TGI, llama.cpp, llama-cpp-python, Ollama, LM Studio
    VendorError("vLLM: model", 404, {
        "object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "param": None, "code": 404},
        "MODEL_NOT_FOUND"),
    VendorError("vLLM: length, new form", 400, {"error": {
        "message": "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 8192 "
        "tokens and your request has 24 input tokens", "type": "BadRequestError", "param": "max_tokens", "code": 400}},
        "CONTEXT_TOO_LONG"),
    VendorError("vLLM: no room", 400, {
        "object": "error", "message": "max_tokens must be at least 1, got -512.", "type": "BadRequestError", "code": 400},
        "CONTEXT_TOO_LONG"),
    VendorError("vLLM: tools", 400, {
        "object": "error", "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be '
        "set", "type": "BadRequestError", "code": 400}, "BAD_REQUEST", "tools"),
    VendorError("TGI: length", 422, {
        "error": "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
        "error_type": "validation"}, "CONTEXT_TOO_LONG"),
    VendorError("TGI: overloaded", 429, {"error": "Model is overloaded", "error_type": "overloaded"},
                "PROVIDER_UNREACHABLE"),
    VendorError("TGI: generation", 424, {"error": "Request failed during generation: Server error: CUDA out of memory",
                                         "error_type": "generation"}, "PROVIDER_FAILED"),
    VendorError("llama.cpp: length", 400, {"error": {
        "code": 400, "message": "the request exceeds the available context size, try increasing it", "type":
        "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}}, "CONTEXT_TOO_LONG"),
    VendorError("llama.cpp: loading", 503, {"error": {"code": 503, "message": "Loading model", "type":
                "unavailable_error"}}, "PROVIDER_UNREACHABLE"),
    VendorError("llama.cpp: key", 401, {"error": {"code": 401, "message": "Invalid API Key", "type":
                "authentication_error"}}, "PROVIDER_AUTH"),
    VendorError("llama.cpp: system", 500, {"error": {
        "code": 500, "message": "Jinja Exception: System role not supported at row 3, column 9", "type": "server_error"}},
        "BAD_REQUEST", "system_role"),
    VendorError("llama.cpp: tools", 500, {"error": {
        "code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}, "BAD_REQUEST", "tools"),
    VendorError("llama.cpp: grammar", 400, {"error": {
        "code": 400, "message": "Failed to parse grammar", "type": "invalid_request_error"}}, "BAD_REQUEST",
        "response_schema"),
    VendorError("llama-cpp-python: length", 400, {"error": {
        "message": "This model's maximum context length is 2048 tokens, however you requested 2100 tokens", "type":
        "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}, "CONTEXT_TOO_LONG"),
    VendorError("llama-cpp-python: length in a 500", 500, {"error": {
        "message": "Requested tokens (3000) exceed context window of 2048", "type": "internal_server_error", "param": None,
        "code": None}}, "CONTEXT_TOO_LONG"),
    VendorError("Ollama: model", 404, {"error": {
        "message": 'model "llama9" not found, try pulling it first', "type": "api_error", "param": None, "code": None}},
        "MODEL_NOT_FOUND"),
    VendorError("Ollama: busy", 503, {"error": {
        "message": "server busy, please try again. maximum pending requests exceeded", "type": "api_error"}},
        "PROVIDER_UNREACHABLE"),
    VendorError("Ollama: tools", 400, {"error": {
        "message": "registry.ollama.ai/library/gemma:2b does not support tools", "type": "api_error"}}, "BAD_REQUEST",
        "tools"),
    VendorError("LM Studio: length", 400, {
        "error": "Trying to keep the first 4100 tokens when context the overflows. However, the model is loaded with "
        "context length of only 4096 tokens, which is not enough."}, "CONTEXT_TOO_LONG"),
    VendorError("LM Studio: no model", 404, {"error": {
        "message": "No models loaded. Please load a model in the developer page or use the `lms load` command.",
        "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}, "MODEL_NOT_FOUND"),
    VendorError("LM Studio: wrong path in a 200", 200, {
        "error": "Unexpected endpoint or method. (POST /chat/completions)"}, "MODEL_NOT_FOUND"),
    # LiteLLM
    VendorError("LiteLLM: length", 400, openai(
        "litellm.ContextWindowExceededError: litellm.BadRequestError: x - prompt has 9000. Received Model Group=a",
        type="None", code="400", param="None"), "CONTEXT_TOO_LONG"),
    VendorError("LiteLLM: filter", 400, openai(
        "litellm.ContentPolicyViolationError: AzureException", type="None", code="400"), "CONTENT_FILTERED"),
    VendorError("LiteLLM: parameters", 400, openai(
        "litellm.UnsupportedParamsError: openai does not support parameters: ['seed'], for model=x. To drop these, set "
        "`litellm.drop_params=True`", type="None", code="400"), "BAD_REQUEST", "seed"),
    VendorError("LiteLLM: budget", 400, openai(
        "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", type="budget_exceeded", code="400"),
        "PROVIDER_QUOTA"),
    VendorError("LiteLLM: cooling down", 429, openai(
        "No deployments available for selected model, Try again in 5 seconds. Passed model=a", type="None", code="429"),
        "PROVIDER_RATE_LIMITED", retry_after_ms=5_000),
    VendorError("LiteLLM: model", 400, openai(
        "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models for your key.",
        type="invalid_request_error", code="400"), "MODEL_NOT_FOUND"),
    # Nested by gateways, or no JSON at all.
    VendorError("a gateway that quotes the body in its message", 400, {"error": {
        "message": 'Upstream said: {"error":{"message":"prompt is too long: 9 > 8 maximum","type":"x"}}', "code": 400}},
        "CONTEXT_TOO_LONG"),
    VendorError("a gateway that quotes it as the cause", 500, {"error": {
        "cause": json.dumps(openai("Unsupported value: 'temperature' does not support 0.1 with this model.",
                                   code="unsupported_value", param="temperature")),
        "code": 400, "message": "call failed", "status": "FAILED_RESPONSE"}}, "BAD_REQUEST", "temperature"),
    VendorError("FastAPI: a text", 400, {"detail": "This model's maximum context length is 4096 tokens"},
                "CONTEXT_TOO_LONG"),
    VendorError("plain text: key", 403, "Forbidden: invalid api key", "PROVIDER_AUTH"),
    VendorError("plain text: length", 400, "Input is too long", "CONTEXT_TOO_LONG"),
    VendorError("a JSON text", 400, '"Invalid API key"', "PROVIDER_AUTH"),
    VendorError("nothing", 400, "", "BAD_REQUEST"),
    VendorError("a page", 403, "<html><head><title>Attention Required! | Cloudflare</title></head></html>",
                "PROVIDER_AUTH"),
    VendorError("a page about rates", 429, "<html><head><title>Error 1015: You are being rate limited</title></head>",
                "PROVIDER_RATE_LIMITED"),
    # Precedence.
    VendorError("401 that speaks of a quota", 401, openai(
        "You exceeded your current quota", type="insufficient_quota", code="insufficient_quota"), "PROVIDER_AUTH"),
    VendorError("401 that speaks of a model", 401, openai("The model `x` does not exist."), "PROVIDER_AUTH"),
    VendorError("400 with an unknown cause", 400, openai("Something is not right."), "BAD_REQUEST"),
    VendorError("a model by the name of a parameter", 404, openai("The model `temperature` does not exist."),
                "MODEL_NOT_FOUND"),
    VendorError("a stop that is no parameter", 400, openai("Please stop sending so much."), "BAD_REQUEST"),
]  # fmt: skip

# As found in public reports after the table was written.
FOUND = [
    VendorError("DeepSeek behind vLLM: length", 400, openai(
        "You passed 13439 input characters and requested 4096 output tokens. However, the model's context length is only "
        "4096 tokens, resulting in a maximum input length of 0 tokens. Please reduce the length of the input prompt. "
        "(parameter=input_text, value=13439)", param="input_text", code=400), "CONTEXT_TOO_LONG"),
    VendorError("SGLang behind a gateway: length", 400, {
        "detail": "Invalid request. Please check the parameters and try again. Details: The input (514881 tokens) is longer "
        "than the model's context length (262144 tokens)."}, "CONTEXT_TOO_LONG"),
    VendorError("vLLM: too long to fit", 400, openai(
        "The prompt (total length 25938) is too long to fit into the model (context length 4096).", code=400),
        "CONTEXT_TOO_LONG"),
    VendorError("SGLang: count", 400, openai(
        "Requested token count exceeds the model's maximum context length of 8192 tokens.", code=400), "CONTEXT_TOO_LONG"),
    VendorError("TensorRT-LLM: length", 400, openai(
        "Prompt length (9000) exceeds maximum input length (8192)", code=400), "CONTEXT_TOO_LONG"),
    VendorError("TabbyAPI: length", 400, {"detail": "Prompt length 5000 is greater than max_seq_len 4096"},
                "CONTEXT_TOO_LONG"),
    VendorError("DeepSeek: length", 400, openai(
        "This model's maximum context length is 131072 tokens. However, you requested 154963 tokens (150867 in the messages, "
        "4096 in the completion). Please reduce the length of the messages or completion.", code="invalid_request_error"),
        "CONTEXT_TOO_LONG"),
    VendorError("Bedrock: bytes", 400, {
        "message": "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less "
        "than or equal to 25000000"}, "CONTEXT_TOO_LONG"),
    VendorError("Bedrock: max_tokens out of range", 400, {
        "message": "The maximum tokens you requested exceeds the model limit of 32768. Try again with a maximum tokens value "
        "that is lower than 32768."}, "BAD_REQUEST"),
    VendorError("nginx: bytes", 413, "<html><head><title>413 Request Entity Too Large</title></head></html>",
                "CONTEXT_TOO_LONG"),
    VendorError("LiteLLM: OpenAI's words, then its own", 400, openai(
        "litellm.BadRequestError: OpenAIException - {\n  \"error\": {\n    \"message\": \"Unsupported parameter: "
        "'reasoning.effort' is not supported with this model.\",\n    \"type\": \"invalid_request_error\",\n    "
        "\"param\": \"reasoning.effort\",\n    \"code\": \"unsupported_parameter\"\n  }\n}. Received Model Group=a",
        code="400"), "BAD_REQUEST", "reasoning"),
    VendorError("LiteLLM: Anthropic's words, then its own", 400, openai(
        'litellm.BadRequestError: AnthropicException - {"type":"error","error":{"type":"invalid_request_error","message":'
        '"input length and `max_tokens` exceed context limit: 142123 + 64000 > 200000"},"request_id":"req_1"}. Received '
        "Model Group=b", code="400"), "CONTEXT_TOO_LONG"),
    VendorError("LiteLLM: Vertex' bytes", 400, openai(
        "litellm.BadRequestError: VertexAIException BadRequestError - b'{\\n  \"error\": {\\n    \"code\": 400,\\n    "
        "\"message\": \"Unable to submit request because at least one contents field is required.\"}}'"), "BAD_REQUEST"),
    VendorError("OpenAI: stop", 400, openai(
        "Unsupported parameter: 'stop' is not supported with this model.", code="unsupported_parameter", param="stop"),
        "BAD_REQUEST", "stop"),
    VendorError("OpenAI: a field of the operator", 400, openai(
        "Unsupported parameter: 'logit_bias' is not supported with this model.", code="unsupported_parameter",
        param="logit_bias"), "BAD_REQUEST", "logit_bias"),
    VendorError("OpenAI: not verified", 400, openai(
        "Your organization must be verified to stream this model. Please go to x.", code="unsupported_value",
        param="stream"), "PROVIDER_AUTH"),
    VendorError("Ark: json_object", 400, openai(
        "The parameter `response_format.type` specified in the request are not valid: `json_object` is not supported by "
        "this model.", code="InvalidParameter", param="response_format.type"), "BAD_REQUEST", "response_format"),
    VendorError("Ark: json_schema", 400, openai(
        "The parameter `response_format.type` specified in the request are not valid: `json_schema` is not supported by "
        "this model.", code="InvalidParameter", param="response_format.type"), "BAD_REQUEST", "response_schema"),
    VendorError("Groq: allowed types", 400, openai(
        "'response_format.type' : value is not one of the allowed values ['text','json_object']"), "BAD_REQUEST",
        "response_schema"),
    VendorError("Azure: api version", 400, {"error": {
        "code": "BadRequest", "message": "response_format value as json_schema is enabled only for api versions "
        "2024-08-01-preview and later"}}, "BAD_REQUEST", "response_schema"),
    VendorError("LM Studio: schema", 400, {"error": "'response_format.json_schema.schema' must be an object"},
                "BAD_REQUEST", "response_schema"),
    VendorError("vLLM: template without a system role", 400, openai(
        "Conversation roles must alternate user/assistant/user/assistant/...", type="BadRequestError", code=400),
        "BAD_REQUEST", "system_role"),
    VendorError("llama.cpp: template without a system role", 500, {"error": {
        "code": 500, "message": "Only user, assistant and tool roles are supported, got system. at row 12, column 5",
        "type": "server_error"}}, "BAD_REQUEST", "system_role"),
    VendorError("llama.cpp: template that wants turns", 500, {"error": {
        "code": 500, "message": "After the optional system message, conversation roles must alternate user and assistant "
        "roles except for tool calls and results. at row 189", "type": "server_error"}}, "BAD_REQUEST"),
    VendorError("TGI: template", 422, {
        "error": "Template error: invalid operation: System role not supported (in <string>:1)", "error_type":
        "template_error"}, "BAD_REQUEST", "system_role"),
    VendorError("TGI: max_new_tokens out of range", 422, {
        "error": "Input validation error: `max_new_tokens` must be <= 512. Given: 1000", "error_type": "validation"},
        "BAD_REQUEST"),
    VendorError("OpenRouter: no endpoint for the parameters", 404, openrouter(
        404, "No endpoints found that can handle the requested parameters."), "BAD_REQUEST"),
    VendorError("OpenRouter: upstream's schema", 400, openrouter(
        400, "Provider returned error", raw=json.dumps(openai("Invalid schema for response_format 'x': schema must be a "
        "JSON Schema of 'type: \"object\"'", param="response_format")), provider_name="Azure"), "BAD_REQUEST",
        "response_schema"),
    VendorError("OpenRouter: bad gateway", 502, openrouter(502, "Provider returned error"), "PROVIDER_FAILED"),
    VendorError("Anthropic: prefill", 400, anthropic(
        "invalid_request_error", "This model does not support assistant message prefill. The conversation must end with a "
        "user message."), "BAD_REQUEST"),
    VendorError("Anthropic: empty block", 400, anthropic(
        "invalid_request_error", "messages: text content blocks must be non-empty"), "BAD_REQUEST"),
    VendorError("Anthropic: top_p", 400, anthropic(
        "invalid_request_error", "top_p: `top_p` is deprecated for this model."), "BAD_REQUEST", "top_p"),
    VendorError("Anthropic: temperature with thinking", 400, anthropic(
        "invalid_request_error", "`temperature` may only be set to 1 when thinking is enabled."), "BAD_REQUEST",
        "temperature"),
    VendorError("Anthropic: schema", 400, anthropic(
        "invalid_request_error", "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly "
        "set to false"), "BAD_REQUEST", "response_schema"),
    VendorError("Anthropic: timeout", 504, anthropic("timeout_error", "The request timed out"), "PROVIDER_FAILED"),
    VendorError("Groq: flex", 498, openai("Flex tier capacity exceeded", type="capacity_exceeded"),
                "PROVIDER_UNREACHABLE"),
    VendorError("Gemini: prepaid", 429, gemini(
        429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go to AI Studio."), "PROVIDER_QUOTA"),
    VendorError("Gemini: demand", 503, gemini(
        503, "UNAVAILABLE", "This model is currently experiencing high demand. Please try again later."),
        "PROVIDER_UNREACHABLE"),
    VendorError("Gemini: leaked key", 403, gemini(
        403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."), "PROVIDER_AUTH"),
    VendorError("Gemini: invalid argument", 400, gemini(
        400, "INVALID_ARGUMENT", "Request contains an invalid argument."), "BAD_REQUEST"),
    VendorError("Vertex: a model's quota", 429, gemini(
        429, "RESOURCE_EXHAUSTED", "Quota exceeded for aiplatform.googleapis.com/generate_content_requests_per_minute_per_"
        "project_per_base_model with base model: gemini-pro."), "PROVIDER_RATE_LIMITED"),
    VendorError("Mistral: order of turns", 400, {
        "object": "error", "message": "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
        "assistant", "type": "invalid_request_message_order", "param": None, "code": "3230"}, "BAD_REQUEST"),
    VendorError("DashScope: allocation", 429, {
        "code": "Throttling.AllocationQuota", "message": "Allocated quota exceeded, please increase your quota limit."},
        "PROVIDER_RATE_LIMITED"),
    VendorError("DashScope: free tier", 403, openai(
        "The free tier of the model has been exhausted.", code="AllocationQuota.FreeTierOnly"), "PROVIDER_QUOTA"),
    VendorError("Zhipu: contents", 400, {"contentFilter": [{"level": 1, "role": "user"}], "error": {
        "code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}, "CONTENT_FILTERED"),
    VendorError("Zhipu: balance, in English", 429, {"error": {
        "code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}, "PROVIDER_QUOTA"),
    VendorError("Ollama: weekly", 429, {"error": "you've reached your weekly usage limit, please upgrade to continue"},
                "PROVIDER_QUOTA"),
    VendorError("Ollama: runner", 500, {"error": {"message": "llama runner process has terminated: exit status 2"}},
                "PROVIDER_FAILED"),
    VendorError("Azure API Management: rate", 429, {
        "statusCode": 429, "message": "Rate limit is exceeded. Try again in 32 seconds."}, "PROVIDER_RATE_LIMITED",
        retry_after_ms=32_000),
    VendorError("Azure API Management: quota", 403, {
        "statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 10:00:00."},
        "PROVIDER_QUOTA"),
    VendorError("Kong: rate", 429, {"message": "API rate limit exceeded"}, "PROVIDER_RATE_LIMITED"),
    VendorError("Envoy: upstream", 503, "upstream connect error or disconnect/reset before headers. reset reason: "
                "connection failure", "PROVIDER_UNREACHABLE"),
    VendorError("Databricks: rate", 429, {
        "error_code": "REQUEST_LIMIT_EXCEEDED", "message": "REQUEST_LIMIT_EXCEEDED: Exceeded workspace input tokens per "
        "minute rate limit for databricks-claude."}, "PROVIDER_RATE_LIMITED"),
    VendorError("watsonx: quota", 403, {
        "errors": [{"code": "token_quota_reached", "message": "Your plan's tokens are used up"}], "status_code": 403},
        "PROVIDER_QUOTA"),
    VendorError("Copilot: model", 400, openai(
        "The requested model is not supported.", code="model_not_supported", param="model"), "MODEL_NOT_FOUND"),
    VendorError("Perplexity: model", 400, openai(
        "Invalid model 'sonar-9'. Permitted models can be found in the documentation.", type="invalid_model", code=400),
        "MODEL_NOT_FOUND"),
    VendorError("NVIDIA: end of life", 410, {"status": 410, "title": "Gone", "detail": "The model reached its end of life"},
                "MODEL_NOT_FOUND"),
    VendorError("xAI: not deserialised", 422, "Failed to deserialize the JSON body into the target type: missing field "
                "`role` at line 1 column 40", "BAD_REQUEST"),
    VendorError("Replicate: credit", 402, {
        "title": "Insufficient credit", "detail": "You have insufficient credit to run this model.", "status": 402},
        "PROVIDER_QUOTA"),
    VendorError("Gemini: depth of a schema", 400, gemini(
        400, "INVALID_ARGUMENT", "A schema in GenerationConfig in the request exceeds the maximum allowed nesting depth."),
        "BAD_REQUEST", "response_schema"),
    VendorError("a bearer token", 400, {"message": "Bearer token is missing or malformed"}, "PROVIDER_AUTH"),
    VendorError("a token's name", 400, openai("invalid_api_token"), "PROVIDER_AUTH"),
    VendorError("no credentials", 400, {"detail": "No auth credentials found"}, "PROVIDER_AUTH"),
    VendorError("a code of camels", 400, {"errorCode": "AUTHENTICATION_ERROR", "message": "x"}, "PROVIDER_AUTH"),
    VendorError("Anthropic: a workspace's cap", 429, anthropic(
        "rate_limit_error", "Your workspace has hit its monthly usage cap."), "PROVIDER_QUOTA"),
    VendorError("an allowance", 429, openai("Monthly token allowance used up"), "PROVIDER_QUOTA"),
    VendorError("a prepaid balance", 400, openai("prepaid balance depleted"), "PROVIDER_QUOTA"),
    VendorError("a limit of tokens behind a 500", 500, openai("prompt token count of 5000 exceeds the limit of 4096"),
                "CONTEXT_TOO_LONG"),
    VendorError("more than it can take", 400, openai(
        "The number of tokens in your request (9000) is more than this model can take (8192)"), "CONTEXT_TOO_LONG"),
    VendorError("llama.cpp: size", 400, openai("context size exceeded"), "CONTEXT_TOO_LONG"),
    VendorError("words under data", 400, {"status": "error", "data": {"message": "prompt is too long"}},
                "CONTEXT_TOO_LONG"),
    VendorError("a moderation of theirs", 400, openai("This request has been blocked by our moderation system"),
                "CONTENT_FILTERED"),
    VendorError("Gemini: words that are not borne", 400, gemini(
        400, "INVALID_ARGUMENT", "The prompt could not be submitted. This prompt contains sensitive words that violate "
        "Google's Responsible AI practices."), "CONTENT_FILTERED"),
    VendorError("Apigee: quota", 429, {"fault": {
        "faultstring": "Rate limit quota violation.", "detail": {"errorcode": "policies.ratelimit.QuotaViolation"}}},
        "PROVIDER_RATE_LIMITED"),
    VendorError("Hugging Face: busy", 503, {"error": "Model too busy, unable to get response in less than 120 second(s)"},
                "PROVIDER_UNREACHABLE"),
]  # fmt: skip

ALL = [*CASES, *MORE, *FOUND]


def is_repeatable(case: VendorError) -> bool:
    """Whether the same call may succeed a moment later."""
    if case.repeatable is not None:
        return case.repeatable
    return case.reason in {"PROVIDER_RATE_LIMITED", "PROVIDER_UNREACHABLE", "PROVIDER_FAILED"}
