"""How each family writes a conversation: its markers and their order, in our own Jinja.

The markers, the place of the image and what follows an answer are those of the published
checkpoints; what this project never sends (tools, videos, several images in a turn) is left out.
"""

# Before a template that lets the model think unless it is told not to.
THINKING_OFF = "{% set enable_thinking = false %}"

_CHATML_TURN = (
    "{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\\n' }}"
)
_CHATML_REPLY = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
_CHATML = "{% for m in messages %}" + _CHATML_TURN + "{% endfor %}" + _CHATML_REPLY
_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"

QWEN_2_5_VL = (
    "{% if messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    + _CHATML.replace("IMAGE", _QWEN_IMAGE)
)
QWEN_3_VL = _CHATML.replace("IMAGE", _QWEN_IMAGE)
# Before its last answer Qwen 3.5 writes an empty thought; thinking is on unless it is switched off.
QWEN_3_5 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% else %}{{ '<think>\\n' }}{% endif %}{% endif %}"
).replace("IMAGE", _QWEN_IMAGE)
# Always thinks, as Qwen3-VL-Thinking.
QWEN_3_VL_THINKING = QWEN_3_5.replace(
    "enable_thinking is defined and enable_thinking is false", "false"
)
INTERNVL = _CHATML.replace("IMAGE", "{{ '<IMG_CONTEXT>\\n' }}")

LLAVA_1_5 = (
    "{% for m in messages %}{{ m.role.upper() + ': ' }}"
    "{% for c in m.content %}{{ '<image>\\n' if c.type == 'image' else c.text + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LLAVA_NEXT = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' }}{% for c in m.content %}"
    "{{ '<image>\\n' if c.type == 'image' else c.text }}{% endfor %}{{ ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content[0].text + '</s>' }}{% endif %}{% endfor %}"
)

LLAVA_ONEVISION = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' }}"
    "{% for c in m.content if c.type == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for c in m.content if c.type == 'text' %}{{ '\\n' + c.text }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}"
)

# GLM's own think unless a user message ends in this word, for which a switch stands in the newer.
_GLM_IMAGE = "<|begin_of_image|><|image|><|end_of_image|>"
GLM_4_1V = (
    "{{ '[gMASK]<sop>' }}{% for m in messages %}{{ '<|' + m.role + '|>\\n' }}"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
).replace("IMAGE", _GLM_IMAGE)
GLM_4_6V = (
    "{{ '[gMASK]<sop>' }}"
    "{% set off = enable_thinking is defined and enable_thinking is false %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|assistant|>\\n<think></think>\\n' + m.content[0].text.strip() }}"
    "{% else %}{{ '<|' + m.role + '|>\\n' }}"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{{ '/nothink' if off and m.role == 'user' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{{ '\\n<think></think>' if off }}{% endif %}"
).replace("IMAGE", _GLM_IMAGE)

GRANITE_4 = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' }}"
    "{% for c in m.content %}{{ '<image>\\n' if c.type == 'image' else c.text }}{% endfor %}"
    "{{ '<|end_of_text|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)

_COHERE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}"
    "{{ '<|CHATBOT_TOKEN|><|START_RESPONSE|>' if m.role == 'assistant' else '<|USER_TOKEN|>' }}"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{{ '<|END_RESPONSE|>' if m.role == 'assistant' }}{{ '<|END_OF_TURN_TOKEN|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>' }}{% endif %}"
)
AYA_VISION = _COHERE.replace("IMAGE", "<image>")
COHERE_2_VISION = _COHERE.replace("IMAGE", "<|IMG_PATCH|>")

# As Qwen 3.5 after an image's placeholder of its own.
MINICPM_V_4_6 = QWEN_3_5.replace(_QWEN_IMAGE, "<|image_pad|>")

_IDEFICS = (
    "{% for m in messages %}{{ m.role.capitalize() }}"
    "{{ ':' if m.content[0].type == 'image' else ': ' }}"
    "{% for c in m.content %}{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}"
    "{{ '<end_of_utterance>\\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
IDEFICS_3 = "<|begin_of_text|>" + _IDEFICS
SMOLVLM = "<|im_start|>" + _IDEFICS

GEMMA_3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
    "{% for c in m.content %}"
    "{{ '<start_of_image>' if c.type == 'image' else c.text | trim }}{% endfor %}"
    "{{ '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
GEMMA_4 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
    "{% for c in m.content %}"
    "{{ '<|image|>' if c.type == 'image' else c.text | trim }}{% endfor %}"
    "{{ '<turn|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\\n' }}{% endif %}"
)
# Without thinking it writes an empty thought before an answer that is asked for, and only there.
GEMMA_4_31B = GEMMA_4.replace(
    "{{ '<|turn>model\\n' }}",
    "{{ '<|turn>model\\n' }}{% if not enable_thinking | default(false) %}"
    "{{ '<|channel>thought\\n<channel|>' }}{% endif %}",
)
