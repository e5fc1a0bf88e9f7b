"""The words that the benchmark's texts are made of: varied enough to be tokenized as language is.

Rare and long words among them are cut into several tokens, as such words are in real texts.
"""


def _words(text: str) -> list[str]:
    return text.split()


NOUNS = _words("""
time year people way day thing world life hand part child eye woman place work week case point government
company number group problem fact harbour river bridge library engine mountain village kitchen market factory
orchard railway station museum hospital laboratory theatre garden island forest desert valley glacier volcano
earthquake hurricane contract invoice warranty insurance mortgage pension dividend shareholder inflation
currency tariff subsidy budget protein enzyme antibody vaccine molecule electron photon galaxy telescope
satellite spacecraft algorithm compiler database kernel protocol firewall certificate container cluster
scheduler transistor capacitor battery turbine photosynthesis thermodynamics jurisprudence metallurgy
epidemiology hydroelectricity cryptography biodiversity violin symphony novelist painter sculpture manuscript
dictionary translator grammar dialect proverb legend dynasty parliament ambassador treaty constitution
referendum senator citizen refugee passport frontier sandwich vinegar cinnamon aubergine mushroom tortoise
sparrow dolphin elephant beetle orchid bamboo marathon goalkeeper referee championship bicycle motorcycle
locomotive submarine parachute lighthouse windmill
""")

VERBS = _words("""
makes takes gives finds tells asks shows leaves keeps holds brings writes reads moves turns starts builds
carries crosses measures compares explains describes predicts confirms contradicts resembles replaces improves
regulates stabilises accelerates dissolves absorbs reflects amplifies transmits receives encrypts compresses
negotiates postpones ratifies abolishes subsidises inherits borrows repays invests audits certifies harvests
irrigates fertilises pollinates devours shelters rescues vaccinates diagnoses rehearses translates
""")

ADJECTIVES = _words("""
new old good great small large early late important public private able common certain clear cold warm dark
ancient modern distant nearby fragile robust transparent opaque volatile permanent temporary seasonal annual
electric magnetic chemical organic synthetic radioactive tropical coastal subterranean bilingual anonymous
unprecedented counterintuitive environmentally-friendly well-known long-forgotten quick silent crowded empty
expensive affordable reliable suspicious generous stubborn curious melancholy magnificent
""")

LINKS = _words("""
in on at under behind near after before during without through against between toward across because although
whereas unless until while since
""")

QUESTIONS = _words("""
how what why where when which who whose explain compare find list show define
""")

NAMES = _words("""
Lisbon Nairobi Kyoto Montréal Reykjavík Samarkand Valparaíso Amsterdam Helsinki Auckland Zanzibar Cappadocia
Newton Curie Ramanujan Lovelace Darwin Humboldt Murasaki Avicenna Tolstoy Chekhov Kahlo Coltrane
""")

ZH_NOUNS = _words("""
时间 人民 世界 生活 问题 城市 公司 政府 学校 学生 老师 医院 医生 病人 市场 价格 合同 发票 保险 贷款 利率 股票
基金 税收 河流 山脉 森林 沙漠 海洋 岛屿 冰川 火山 地震 台风 气候 温度 湿度 土壤 种子 水稻 小麦 茶叶 果园 村庄
桥梁 铁路 车站 机场 电池 芯片 电路 光纤 卫星 望远镜 火箭 发动机 机器人 算法 数据库 服务器 向量 模型 网络 协议
密码 证书 软件 硬件 程序员 蛋白质 疫苗 抗体 细胞 基因 分子 电子 光子 银河 黑洞 化石 恐龙 大象 海豚 乌龟 麻雀
蝴蝶 竹子 兰花 蘑菇 小说 诗歌 戏剧 音乐 钢琴 二胡 绘画 雕塑 博物馆 图书馆 词典 方言 成语 传说 朝代 皇帝 将军
诗人 宪法 议会 大使 条约 公民 护照 豆腐 饺子 辣椒 生姜 酱油 面条 篮球 教练 裁判 冠军 马拉松 自行车 潜水艇 灯塔
风车 邻居 厨房 花园 窗户 雨伞 眼镜
""")

ZH_VERBS = _words("""
使用 提高 降低 比较 解释 说明 证明 反对 支持 讨论 研究 分析 预测 测量 观察 发现 发明 设计 建造 修理 更换 运输
储存 传输 接收 压缩 加密 训练 部署 监控 优化 调整 申请 批准 推迟 取消 签署 谈判 投资 借用 归还 继承 保护 拯救
种植 收获 灌溉 烹饪 品尝 翻译 朗读 书写 练习 模仿 改变 影响 吸收 反射 溶解 加热 冷却 旋转 穿过 离开 到达 等待
寻找 忘记 记住
""")

ZH_ADJECTIVES = _words("""
新的 旧的 重要的 普通的 古老的 现代的 遥远的 透明的 稳定的 脆弱的 可靠的 昂贵的 便宜的 安静的 拥挤的 寒冷的
炎热的 潮湿的 复杂的 简单的 临时的 长期的 匿名的 公开的 意外的 罕见的 著名的 陌生的 慷慨的 固执的 好奇的 壮丽的
""")

ZH_LINKS = _words("""
因为 所以 但是 虽然 如果 那么 同时 然后 而且 或者 为了 通过 按照 关于 对于 除了 直到 从而 于是 其中
""")

ZH_QUESTIONS = _words("""
如何 怎样 为什么 什么是 哪里有 什么时候 谁在 请问 比较 查找 列出 推荐
""")

ZH_NAMES = _words("""
北京 上海 成都 西安 哈尔滨 乌鲁木齐 拉萨 长江 黄河 泰山 敦煌 苏州 李白 杜甫 苏轼 鲁迅 祖冲之 沈括 张衡 徐霞客
""")
